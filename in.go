package imsg

import (
	"fmt"

	"example.org/imsg/ibuf"
)

// An input is the receiving half of a channel without its socket: bytes and
// files in, messages out.
type input struct {
	framer ibuf.Framer
	c      *codec
	count  Counters
}

func (in *input) init(c *codec) {
	in.c = c
	in.framer = ibuf.Framer{HeaderSize: HeaderSize, Header: in.header}
	in.follow(c.cfg.Dialect)
}

// follow applies a dialect's rule for files that no message has claimed yet:
// only a legacy peer's may come long before the message.
func (in *input) follow(d Dialect) {
	in.framer.HoldFiles = 0
	if d != Current {
		in.framer.HoldFiles = maxHeldFiles
	}
}

// header is the framer's callback: the one place where the length of a message
// that comes in is checked.
func (in *input) header(hdr []byte) (n int, file bool, err error) {
	limit := int(in.c.limit.Load())
	d := Dialect(in.c.dialect.Load())
	if d == Auto {
		if d, n, file = guess(hdr, limit); d != Auto {
			in.c.dialect.Store(uint32(d))
			in.follow(d)
		}
	} else {
		n, file = d.size(hdr)
	}
	if n < HeaderSize || n > limit {
		return 0, false, &HeaderError{n, limit}
	}
	return n, file, nil
}

// fed passes on what one system call delivered.
func (in *input) fed(n, fd int, lost bool) error {
	if n > 0 {
		in.count.Calls++
		in.count.Bytes += uint64(n)
	}
	if err := in.framer.Fed(n, fd, lost); err != nil {
		return err
	}
	if n == 0 {
		return in.framer.EOF()
	}
	return nil
}

// next returns the oldest message that is complete.
func (in *input) next() (Message, bool) {
	f, ok := in.framer.Next()
	if !ok {
		return Message{}, false
	}
	m := Message{f}
	in.count.Messages++
	if f.HasFile() {
		in.count.Files++
	}
	if trace := in.c.cfg.Trace; trace != nil {
		trace(Event{Received, m.Header(), ibuf.NewView(m.Bytes()), m.HasFile(), f.FileLost()})
	}
	return m, true
}

func (in *input) full(n int) error {
	return fmt.Errorf("%d bytes of messages wait to be taken, limit %d: %w", n, in.c.cfg.MaxPendingBytes, ErrQueueFull)
}
