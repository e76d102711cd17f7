package imsg

import (
	"fmt"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/unixmsg"
)

// An input is the receiving half of a channel without its socket: bytes and
// files in, messages out.
type input struct {
	framer stream.Framer
	c      *settings
	count  Counters

	// What the last system call brought. While files come, each in a part of
	// its own, one call is for many parts.
	got  []unixmsg.Part // in one, before the first file
	one  [1]unixmsg.Part
	last error // how the stream ends, behind what is still to come
}

func (in *input) init(c *settings) {
	in.c = c
	in.got = in.one[:0]
	in.framer = stream.Framer{HeaderSize: HeaderSize, PlainAt: lengthAt, Header: func(hdr []byte) (n int, file bool, err error) {
		limit := c.maxMessage()
		n, file = in.size(hdr, limit)
		if n < HeaderSize || n > limit {
			return 0, false, newHeaderError(hdr, c.spoken(), n, limit)
		}
		return n, file, nil
	}}
	in.follow(c.cfg.Dialect)
}

// follow applies a dialect's rule for files that no message has claimed yet:
// only a legacy peer's may come long before the message.
func (in *input) follow(d Dialect) {
	in.framer.HoldFiles = 0
	if d != Current {
		in.framer.HoldFiles = in.c.cfg.MaxQueueFiles
	}
}

// size reads the length and the mark of a header, in whatever dialect.
func (in *input) size(hdr []byte, limit int) (n int, file bool) {
	d := in.c.spoken()
	if d != Auto {
		return d.parseLength(hdr)
	}
	d, n, file = detectDialect(hdr, limit, in.framer.Held() > 0)
	if d != Auto {
		in.c.dialect.Store(uint32(d))
		in.follow(d)
	}
	return n, file
}

// receive makes one system call, which puts bytes into space.
func (in *input) receive(fd int, space []byte) error {
	if in.c.spoken() == Auto && in.c.limit.Load() > legacyLimit {
		space = space[:min(len(space), undecidedRead)]
	}
	most := 1
	if in.c.cfg.AllowFDPass && len(in.got) > 0 && in.got[0].File >= 0 {
		if most = unixmsg.MaxParts; cap(in.got) < most {
			in.got = append(make([]unixmsg.Part, 0, most), in.got...)
		}
	}
	parts := in.got[:most]
	n, err := receive(fd, space, parts, in.c.cfg.AllowFDPass, in.c.flags)
	if n > 0 {
		in.got = parts[:n]
		if err != nil {
			in.last = err
		}
		return nil
	}
	return err
}

// deliver hands the parts of the last receive to the framer, and returns what
// ends the stream, if it has ended.
func (in *input) deliver() (err error) {
	in.framer.PlainMax = in.c.plainMax()
	for _, p := range in.got {
		in.count.Bytes += uint64(p.N)
		err = in.framer.Advance(int(p.N), int(p.File), p.Lost, p.Full)
	}
	if err == nil && in.got[0].N == 0 {
		if err = in.framer.EOF(); in.last != nil {
			err = in.last
		}
		return err
	}
	in.count.Calls++
	return err
}

// next returns the oldest message that is complete.
func (in *input) next() (Message, bool) {
	f, ok := in.framer.Next()
	if !ok {
		return Message{}, false
	}
	m := Message{f}
	in.count.Messages++
	if in.c.cfg.AllowFDPass && f.MayHaveFile() && f.HasFile() {
		in.count.Files++
	}
	if in.c.cfg.Trace != nil {
		in.trace(m)
	}
	return m, true
}

// take moves messages that are complete to ms, behind the n that it has, and
// returns how many it has then. If Trace panics they are closed: nobody is told.
func (in *input) take(ms []Message, n int) int {
	if in.c.cfg.Trace != nil {
		return in.takeTraced(ms, n)
	}
	for n < len(ms) {
		first, k := in.framer.NextRun(len(ms) - n)
		if k == 0 {
			break
		}
		for i := range ms[n:][:k] {
			ms[n:][i] = Message{first.Plus(i)}
		}
		if in.c.cfg.AllowFDPass && first.MayHaveFile() {
			for _, m := range ms[n : n+k] {
				if m.HasFile() {
					in.count.Files++
				}
			}
		}
		in.count.Messages += uint64(k)
		n += k
	}
	return n
}

func (in *input) takeTraced(ms []Message, n int) int {
	done := false
	defer func() {
		if !done {
			CloseAll(ms[:n])
		}
	}()
	for n < len(ms) {
		m, ok := in.next()
		if !ok {
			break
		}
		ms[n] = m
		n++
	}
	done = true
	return n
}

func (in *input) trace(m Message) {
	done := false
	defer func() {
		if !done { // a panic: nobody gets m
			m.Close()
		}
	}()
	in.c.trace(Event{Direction: Received, Header: m.Header(), Payload: ibuf.NewView(m.Bytes()), HasFile: m.HasFile(), FileLost: m.f.FileLost()})
	done = true
}

func (in *input) full(n int) error {
	return fmt.Errorf("%d bytes of messages wait to be taken, limit %d (MaxPendingBytes): %w", n, in.c.cfg.MaxPendingBytes, ErrQueueFull)
}
