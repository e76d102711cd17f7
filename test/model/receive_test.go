//go:build linux

package model_test

import (
	"os"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// The receiving operations, on the library and on the model.

// read is ReadSocket.
func (w *world) read(e *endpoint) bool {
	if e.dead || e.blocking && len(e.rx.wire.p) == 0 && !e.rx.wire.over {
		return false
	}
	err := e.buf.ReadSocket()
	k := e.took()
	switch {
	case e.rx.err != nil:
		expect("ReadSocket", err, e.rx.err)
	case e.rx.Pending >= e.pending:
		expect("ReadSocket", err, imsg.ErrQueueFull)
	case len(e.rx.wire.p) > 0:
		if k == 0 {
			fail("ReadSocket: read none of %d bytes, %v", len(e.rx.wire.p), err)
		}
		e.rx.n.Calls++
		e.feed(k)
		if e.rx.Err == nil {
			expect("ReadSocket", err)
		} else {
			expect("ReadSocket", err, e.rx.Err)
			e.rx.err = err
		}
		return true
	case e.rx.wire.over:
		e.ended("ReadSocket", err)
	default:
		expect("ReadSocket", err)
	}
	same("bytes read", k, 0)
	return true
}

func (e *endpoint) feed(k int) {
	p, files := e.rx.wire.take(k)
	e.rx.Feed(p, files)
}

// ended compares what a read at the end of the stream says. Linux tells with
// ECONNRESET, before the end and once, that the peer has not read everything.
func (e *endpoint) ended(what string, err error) {
	if e.rx.wire.reset && refIs(err, unix.ECONNRESET) {
		e.rx.err, e.rx.Err = err, unix.ECONNRESET
		e.rx.BeUnsure() // what is held may be closed now, or with the channel
		return
	}
	e.rx.EOF()
	expect(what, err, e.rx.Err)
	e.rx.err = err
}

// get is Get, or a Receive.
func (w *world) get(e *endpoint, arg int) {
	if e.buf != nil {
		m, ok := e.buf.Get()
		if !ok {
			e.rx.NoMore()
		}
		if same("Get", ok, len(e.rx.Ready) > 0); ok {
			w.got(e, m)
		}
		return
	}
	now := len(e.rx.Ready) > 0 || e.rx.err != nil || e.rx.Err != nil || e.rx.wire.over || e.rx.Would(e.rx.wire.p)
	ctx, cancel, gaveUp := contextFor(arg, now)
	defer cancel()
	m, err := e.conn.Receive(ctx)
	k := e.took()
	takeCalls(&e.rx.n, e.ch.Stats().Received, k)
	if k > 0 && (arg == 2 || len(e.rx.Ready) > 0 || e.rx.err != nil || e.rx.Err != nil) {
		fail("Receive: %d bytes read, and there was no need", k)
	}
	e.feed(k)
	if err != nil && arg != 2 {
		e.rx.NoMore()
	}
	if e.rpast {
		gaveUp = append(gaveUp, os.ErrDeadlineExceeded)
	}
	switch {
	case arg == 2:
		expect("Receive", err, gaveUp...)
	case len(e.rx.Ready) > 0:
		expect("Receive", err)
		w.got(e, m)
	case e.rx.err != nil:
		expect("Receive", err, e.rx.err)
	case e.rx.Err != nil:
		expect("Receive", err, e.rx.Err)
		e.rx.err = err
	case e.rpast && refIs(err, os.ErrDeadlineExceeded):
	case len(e.rx.wire.p) > 0:
		fail("Receive: %d bytes are left unread, %v", len(e.rx.wire.p), err)
	case e.rx.wire.over:
		e.ended("Receive", err)
	default:
		expect("Receive", err, gaveUp...)
	}
}

// all is All, left after n messages.
func (w *world) all(e *endpoint, n int) {
	n = max(1, min(n, 20))
	got := 0
	for m := range e.buf.All() {
		w.got(e, m)
		if got++; got >= n {
			return
		}
	}
	e.rx.NoMore()
	same("messages left by All", len(e.rx.Ready), 0)
}

// got takes a message from the library that the model has, too.
func (w *world) got(e *endpoint, m imsg.Message) {
	if len(e.rx.Ready) == 0 {
		fail("a message of type %d that was never sent", m.Type())
	}
	r := e.rx.next()
	file := r.File != nil
	lost := r.Lost
	if r.Unsure {
		file, lost = m.HasFile(), m.FileErr() != nil
	}
	if file {
		e.rx.n.Files++
	}
	e.event(imsg.Received, imsg.Header(r.Header), r.Payload, file, lost)
	w.n.messages++
	mm := held{m, r}
	mm.check()
	if e.msgs = append(e.msgs, mm); len(e.msgs) > 10 {
		w.closeMessage(e, 0)
	}
}
