//go:build linux

package model_test

import (
	"net"
	"syscall"
)

// drain moves everything to where it should go: nothing may be stuck.
func (w *world) drain() {
	for _, e := range w.ends {
		if e.conn != nil && !e.dead {
			w.step(op{code: opDeadline, end: e.index()})
		}
	}
	for again := true; again; {
		again = false
		for i, e := range w.ends {
			before := e.progress()
			if e.ch == nil {
				w.step(op{code: opRawWrite, end: i})
				w.step(op{code: opRawRead, end: i})
			} else {
				w.step(op{code: opWrite, end: i})
				w.step(op{code: opRead, end: i})
				for n := -1; n != w.n.messages && (e.conn != nil || len(e.rx.Ready) > 0); {
					n = w.n.messages
					w.step(op{code: opGet, end: i, a: 1})
				}
			}
			again = again || e.progress() != before
		}
	}
	for _, e := range w.ends {
		if e.broken() || e.blocking || e.dead || e.tx.err != nil || e.peer.rx.err != nil {
			continue
		}
		if len(e.tx.queue) > 0 || len(e.out.p) > 0 || len(e.peer.rx.Ready) > 0 {
			fail("%s: stuck with %d messages queued, %d bytes in flight, %d messages not taken",
				e.name, len(e.tx.queue), len(e.out.p), len(e.peer.rx.Ready))
		}
	}
}

func (e *endpoint) index() int { return int(e.name[0] - 'a') }

func (e *endpoint) progress() [3]uint64 {
	return [3]uint64{e.tx.n.Bytes, e.rx.wire.off, e.rx.n.Messages}
}

// close ends the program: nothing may be open any more.
func (w *world) close() {
	for _, e := range w.ends {
		w.n.sent += e.tx.n.Messages
		w.n.bytes += e.tx.n.Bytes
		for len(e.msgs) > 0 {
			w.closeMessage(e, 0)
		}
		for len(e.builders) > 0 {
			w.step(op{code: opDiscard, end: e.index()})
		}
		w.step(op{code: opQueueClear, end: e.index()})
		w.step(op{code: opClear, end: e.index()})
		if !e.dead {
			w.step(op{code: opCloseEnd, end: e.index()})
		}
		if e.conn != nil {
			expect("second Close", e.conn.Close(), net.ErrClosed)
		}
	}
	w.check()
	w.checkFiles(true)
	if n := len(w.files.Live); n > 0 {
		fail("%d files are open", n)
	}
	w.n.created, w.n.discarded = w.files.Made, w.files.Made-w.n.delivered-w.n.returned
}

// abandon closes what a failed program has left.
func (w *world) abandon() {
	defer func() { recover() }() // it is broken already
	for _, e := range w.ends {
		for _, f := range e.raw {
			f.Close()
		}
		for _, m := range e.msgs {
			m.m.Close()
		}
		for _, b := range e.builders {
			b.bd.Discard()
		}
		e.queue.Clear()
		switch {
		case e.conn != nil:
			e.conn.Close()
		case e.buf != nil:
			e.buf.Clear()
		}
		if e.conn == nil && !e.dead {
			syscall.Close(e.fd)
		}
	}
	w.files.Close()
}
