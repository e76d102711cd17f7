package imsg

import (
	"fmt"
	"os"

	"example.org/imsg/ibuf"
)

// An output is the sending half of a channel without its socket: messages in,
// encoded bytes and files in a queue out.
type output struct {
	q     ibuf.Output
	c     *codec
	count Counters // Messages and Files count what was queued
}

// compose queues one message. The file belongs to the queue if owned is set.
// It checks everything before it changes anything.
func (o *output) compose(h Header, f *os.File, owned bool, data [][]byte) error {
	n := size(data)
	if f != nil || !o.plain(n) {
		if err := o.check(h, f, n); err != nil {
			return err
		}
	}
	p := o.q.Append(HeaderSize+n, f, owned)
	o.wire().put(p, h, HeaderSize+n, f != nil)
	at := HeaderSize
	for _, part := range data {
		at += copy(p[at:], part)
	}
	o.count.Messages++
	if f != nil {
		o.count.Files++
	}
	if o.c.cfg.Trace != nil {
		o.trace(h, p[HeaderSize:], f != nil)
	}
	return nil
}

// size is the length of a payload in parts.
func size(data [][]byte) (n int) {
	for _, p := range data {
		n += len(p)
	}
	return n
}

// composeBuffer queues one message whose payload is what is unread of b. The
// queue owns b and its file if the error is nil.
func (o *output) composeBuffer(h Header, b *ibuf.Buffer) error {
	n, f := b.Len(), b.TakeFile()
	b.SetFile(f)
	if err := o.check(h, f, n); err != nil {
		return err
	}
	o.wire().put(o.q.AppendBuffer(HeaderSize, b), h, HeaderSize+n, f != nil)
	o.count.Messages++
	if f != nil {
		o.count.Files++
	}
	if o.c.cfg.Trace != nil {
		o.trace(h, b.Bytes(), f != nil)
	}
	return nil
}

// wire is the dialect to write.
func (o *output) wire() Dialect { return Dialect(o.c.dialect.Load()) }

// plain reports whether a message without a file may be queued, as most may,
// without the cost of looking at everything.
func (o *output) plain(n int) bool {
	cfg := &o.c.cfg
	return HeaderSize+n <= int(o.c.limit.Load()) && o.q.Size()+HeaderSize+n <= cfg.MaxQueueBytes && cfg.MaxQueueMessages <= 0
}

// check reports whether a message may be queued.
func (o *output) check(h Header, f *os.File, n int) error {
	cfg := &o.c.cfg
	if err := o.c.fits(h, n); err != nil {
		return err
	}
	files := 0
	if f != nil {
		files = 1
		if !cfg.AllowFDPass {
			return opError("compose", h.Type, ErrNoFDPass)
		}
		if err := control(f, func(uintptr) {}); err != nil {
			return opError("compose", h.Type, err)
		}
	}
	if o.q.Len() == 0 {
		return nil
	}
	switch {
	case o.q.Size()+HeaderSize+n > cfg.MaxQueueBytes:
		return o.full(h, HeaderSize+n, o.q.Size(), cfg.MaxQueueBytes, "bytes")
	case cfg.MaxQueueMessages > 0 && o.q.Len() >= cfg.MaxQueueMessages:
		return o.full(h, 1, o.q.Len(), cfg.MaxQueueMessages, "messages")
	case o.q.Files()+files > cfg.MaxQueueFiles:
		return o.full(h, 1, o.q.Files(), cfg.MaxQueueFiles, "files")
	}
	return nil
}

func (o *output) full(h Header, more, have, limit int, what string) error {
	return opError("compose", h.Type, fmt.Errorf("%d more to %d %s, limit %d: %w", more, have, what, limit, ErrQueueFull))
}

func (o *output) trace(h Header, payload []byte, file bool) {
	o.c.cfg.Trace(Event{Direction: Sent, Header: h, Payload: ibuf.NewView(payload), HasFile: file})
}

// wrote accounts for what one system call took.
func (o *output) wrote(n int) {
	if n > 0 {
		o.count.Calls++
		o.count.Bytes += uint64(n)
	}
	o.q.Wrote(n)
}

// drop discards what is queued.
func (o *output) drop() {
	o.count = o.sent()
	o.q.Clear()
}

// sent returns the counters of what was written.
func (o *output) sent() Counters {
	c := o.count
	c.Messages -= uint64(o.q.Len())
	c.Files -= uint64(o.q.Files())
	return c
}
