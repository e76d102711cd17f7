//go:build linux

package model_test

import (
	"bytes"
	"slices"

	"example.org/imsg"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// The raw peer: what it queues are bytes, of either dialect, right or wrong,
// and it writes them in pieces of any length.

// frame queues messages as one send: kind is an index of words["kind"].
func (w *world) frame(e *endpoint, size, kind, dialect int) bool {
	if e.dead || e.tx.size > 1<<20 {
		return false
	}
	d := imsg.Dialect(dialect)
	payload := w.contents(e.size(size))
	r := &refMsg{owned: true}
	mark := false
	switch kind {
	case 1, 4:
		r.file, mark = e.rawFile(w), true
	case 2:
		mark = true
	case 3:
		r.file = e.rawFile(w)
	case 6:
		r.file, r.extra, mark = e.rawFile(w), e.rawFile(w), true
	}
	if kind == 4 { // the file goes with the first byte of all, and belongs to the last
		for range 1 + w.seq%3 {
			first := w.contents(int(w.seq*7) % 600)
			r.b = append(r.b, wireref.Encode(wireref.Dialect(d), wireref.Header(w.header()), first, false)...)
		}
	}
	if kind == 5 {
		payload = payload[:min(len(payload), 3)]
	}
	r.b = append(r.b, wireref.Encode(wireref.Dialect(d), wireref.Header(w.header()), payload, mark)...)
	if kind == 5 { // a length of 0 to 15, or of more than anybody allows
		r.b[4], r.b[5], r.b[6], r.b[7] = byte(w.seq%16), 0, 0, byte(w.seq%2*127)
	}
	e.tx.push(r)
	return true
}

// rawFile makes a file that is open until it is sent.
func (e *endpoint) rawFile(w *world) *wireref.File {
	f, file := w.createFile()
	e.raw[&f.File] = file
	return &f.File
}

// rawSent closes the raw peer's own descriptor of a file.
func (e *endpoint) rawSent(f *wireref.File) {
	if f != nil {
		e.raw[f].Close()
		delete(e.raw, f)
	}
}

// rawDrop gives up what a raw peer has queued.
func (e *endpoint) rawDrop() {
	if e.kind != rawEnd {
		return
	}
	for f, file := range e.raw {
		file.Close()
		f.Refs--
	}
	clear(e.raw)
	e.tx = refSender{n: e.tx.n}
}

// rawWrite writes up to n bytes of one send, or, if n is 0, everything.
func (w *world) rawWrite(e *endpoint, n int) bool {
	if e.dead || len(e.tx.queue) == 0 {
		return false
	}
	if n == 0 {
		for before := -1; len(e.tx.queue) > 0 && e.tx.size != before; {
			before = e.tx.size
			w.rawWrite(e, 1<<20)
		}
		return true
	}
	m := e.tx.queue[0]
	p := m.b[m.sent:]
	if n < len(p) {
		p = p[:n]
	}
	var fds []int
	if m.sent == 0 && m.file != nil {
		for _, f := range []*wireref.File{m.file, m.extra} {
			if f == nil {
				continue
			}
			rc, err := e.raw[f].SyscallConn()
			if err == nil {
				err = rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
			}
			expect("a raw peer's file", err)
		}
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, err := unix.SendmsgN(e.fd, p, oob, nil, unix.MSG_NOSIGNAL)
	switch {
	case e.broken():
		expect("sendmsg", err, unix.EPIPE)
		e.rawDrop()
		return true
	case err == unix.EAGAIN:
		n = 0
	default:
		expect("sendmsg", err)
	}
	if n > 0 && len(fds) > 0 {
		e.rawSent(m.file)
		e.rawSent(m.extra)
	}
	e.tx.wrote(n, &e.out)
	same("bytes of a raw write in flight", inFlight(e.peer.fd), len(e.out.p))
	return true
}

// rawRead reads up to n bytes, 0 for all: the wire must carry, byte for byte
// and file for file, what the model says.
func (w *world) rawRead(e *endpoint, n int) bool {
	if e.dead {
		return false
	}
	if n == 0 {
		n = 64 << 10
	}
	if w.space == nil {
		w.space = make([]byte, 64<<10)
	}
	p := w.space[:min(n, len(w.space))]
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := unix.Recvmsg(e.fd, p, oob, unix.MSG_CMSG_CLOEXEC)
	wire := e.rx.wire
	switch {
	case len(wire.p) > 0 || !wire.over:
		if err == unix.EAGAIN && len(wire.p) == 0 {
			return true
		}
		expect("recvmsg", err)
	case n <= 0:
		if err != nil {
			expect("recvmsg", err, unix.ECONNRESET)
		}
		return true
	}
	p = p[:n]
	var fds []int
	if cs, _ := unix.ParseSocketControlMessage(oob[:oobn]); len(cs) > 0 {
		fds, _ = unix.ParseUnixRights(&cs[0])
	}
	want, files := wire.take(n)
	if !bytes.Equal(p, want) {
		fail("%d bytes on the wire are not the model's", n)
	}
	var got []*wireref.File
	for _, fd := range fds {
		f := w.findFile(fd)
		got = append(got, &f.File)
		unix.Close(fd)
		f.Refs--
		w.n.delivered++
	}
	if !slices.EqualFunc(got, files, func(f *wireref.File, want wireref.Flight) bool { return f == want.File }) {
		fail("%d files on the wire, want %d, or others", len(got), len(files))
	}
	return true
}
