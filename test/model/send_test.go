//go:build linux

package model_test

import (
	"net"
	"os"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// write is WriteSocket, or for a Conn a Flush that does not wait.
func (w *world) write(e *endpoint) bool {
	if e.conn != nil {
		return w.flush(e, 1)
	}
	if e.dead || e.blocking && !e.takes(0, 0) {
		return false
	}
	err := e.buf.WriteSocket()
	n := e.wrote()
	least, messages, most := e.tx.bounds()
	switch {
	case e.tx.err != nil:
		expect("WriteSocket", err, e.tx.err)
	case most > 0 && e.broken():
		expect("WriteSocket", err, unix.EPIPE)
		e.tx.fail(err)
	default:
		expect("WriteSocket", err)
		if n > most {
			fail("%d bytes written at once, %d before a file too many", n, most)
		}
		// So many messages are in 64 pieces at most.
		if n < least && messages <= 30 && !isFull(e.fd) {
			fail("%d of %d bytes written, and the kernel would take more", n, least)
		}
		if n > 0 {
			e.tx.n.Calls++
		}
		e.tx.remark(wireref.Dialect(e.rx.Dialect))
		e.tx.wrote(n, &e.out)
		return true
	}
	same("bytes written", n, 0)
	return true
}

// fail ends the direction.
func (s *refSender) fail(err error) {
	s.drop()
	s.err = err
}

// takeCalls takes over the library's count of system calls, of which there are
// some if and only if n bytes moved.
func takeCalls(mine *imsg.Counters, theirs imsg.Counters, n int) {
	calls := int(theirs.Calls - mine.Calls)
	if (calls > 0) != (n > 0) || calls < 0 || calls > n {
		fail("%d system calls moved %d bytes", calls, n)
	}
	mine.Calls = theirs.Calls
}

func (w *world) flush(e *endpoint, arg int) bool {
	if e.conn == nil && (e.dead || !e.takes(0, 0)) {
		return false
	}
	var err error
	var gaveUp []error
	if e.buf != nil {
		err = e.buf.Flush()
	} else {
		ctx, cancel, g := contextFor(arg, e.takes(0, 0))
		defer cancel()
		gaveUp, err = g, e.conn.Flush(ctx)
	}
	w.flushed(e, "Flush", nil, err, gaveUp, arg == 2 && e.conn != nil)
	return true
}

// flushed compares the outcome of an operation that writes all that is queued,
// and the message m after it, if not nil.
func (w *world) flushed(e *endpoint, what string, m *outgoing, err error, gaveUp []error, cancelled bool) {
	n, total := e.wrote(), e.tx.size
	if m != nil {
		total += imsg.HeaderSize + len(m.payload)
	}
	if e.wpast {
		gaveUp = append(gaveUp, os.ErrDeadlineExceeded)
	}
	switch {
	case cancelled:
		expect(what, err, gaveUp...)
		same("bytes written", n, 0)
	case e.tx.err != nil:
		expect(what, err, e.tx.err)
		same("bytes written", n, 0)
	case m != nil && len(e.refuses(m)) > 0:
		expect(what, err, e.refuses(m)...)
		same("bytes written", n, 0)
	case total == 0:
		expect(what, err)
		same("bytes written", n, 0)
	case e.broken() && !(e.wpast && refIs(err, os.ErrDeadlineExceeded)):
		expect(what, err, unix.EPIPE)
		same("bytes written", n, 0)
		e.tried(m)
		e.tx.fail(err)
	case err == nil:
		same(what+": bytes written", n, total)
		if m != nil {
			e.push(m, false)
		}
	default:
		expect(what, err, gaveUp...)
		if n >= total || !e.wpast && !isFull(e.fd) {
			fail("%s: gave up after %d of %d bytes, %v", what, n, total, err)
		}
		if m != nil && n > e.tx.size {
			e.push(m, false)
		} else {
			e.tried(m)
		}
	}
	takeCalls(&e.tx.n, e.ch.Stats().Sent, n)
	e.tx.remark(wireref.Dialect(e.rx.Dialect))
	e.tx.wrote(n, &e.out)
}

// tried says that m may have been in the queue for a while.
func (e *endpoint) tried(m *outgoing) {
	if m != nil && len(e.events) > len(e.want) {
		m.own()
		e.event(imsg.Sent, m.h, m.payload, m.f != nil, false)
	}
}

func (w *world) send(e *endpoint, o op) {
	m := w.message(e, o.a, o.b)
	files := 0
	if m.f != nil {
		files = 1
	}
	ctx, cancel, gaveUp := contextFor(o.c, e.takes(imsg.HeaderSize+len(m.payload), files))
	defer cancel()
	err := w.parts(m, func(p ...[]byte) error { return e.conn.Send(ctx, m.h, m.file, p...) })
	w.flushed(e, "Send", m, err, gaveUp, o.c == 2)
	w.keep(m) // it was only borrowed
}

func (w *world) deadline(e *endpoint, which, when int) {
	t := [...]time.Time{{}, time.Unix(1, 0), time.Now().Add(time.Hour)}[when]
	set := [...]func(time.Time) error{e.conn.SetDeadline, e.conn.SetReadDeadline, e.conn.SetWriteDeadline}[which]
	err := set(t)
	if e.dead {
		expect("SetDeadline", err, net.ErrClosed)
		return
	}
	expect("SetDeadline", err)
	if which != 2 {
		e.rpast = when == 1
	}
	if which != 1 {
		e.wpast = when == 1
	}
}

// die closes an end's descriptor: orderly or not is the same for the peer.
func (w *world) die(e *endpoint, kill bool) {
	switch {
	case e.conn != nil:
		expect("Close", e.conn.Close())
		e.tx.fail(net.ErrClosed)
		e.rx.Drop()
		e.rx.err = net.ErrClosed
	case e.buf != nil && !kill:
		w.clear(e)
		fallthrough
	default:
		expect("close", os.NewSyscallError("close", syscall.Close(e.fd)))
		e.rawDrop()
	}
	e.dead, e.out.over = true, true
	e.out.reset = len(e.rx.wire.p) > 0
	e.rx.wire.drop()
}

// clear is Clear.
func (w *world) clear(e *endpoint) {
	e.buf.Clear()
	e.tx.drop()
	e.rx.Drop()
}

func (w *world) hangup(e *endpoint) {
	expect("shutdown", unix.Shutdown(e.fd, unix.SHUT_WR))
	e.hung, e.out.over = true, true
}
