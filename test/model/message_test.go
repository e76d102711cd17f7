//go:build linux

package model_test

import (
	"bytes"
	"errors"
	"os"
	"slices"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// A held is a received message that the program holds.
type held struct {
	m imsg.Message
	r *wireref.Message
}

// check compares everything that can be seen of a message.
func (m held) check() {
	h := imsg.Header(m.r.Header)
	rest := m.r.Payload[m.r.Taken:]
	if m.m.Header() != h || m.m.Type() != h.Type || m.m.ID() != h.ID || m.m.PID() != h.PID {
		fail("header %+v, want %+v", m.m.Header(), h)
	}
	if m.m.Len() != len(rest) || !bytes.Equal(m.m.Bytes(), rest) {
		fail("message %d: payload of %d bytes, want %d, or others", h.Type, m.m.Len(), len(rest))
	}
	if m.r.Unsure {
		return
	}
	same("HasFile", m.m.HasFile(), m.r.File != nil)
	if err := m.m.FileErr(); errors.Is(err, imsg.ErrFileLost) != m.r.Lost || (err != nil) != m.r.Lost {
		fail("message %d: FileErr %v, the model says lost %v", h.Type, err, m.r.Lost)
	}
}

// readMessage is one of the ways to read n bytes of the payload.
func (w *world) readMessage(m held, o op) {
	rest := m.r.Payload[m.r.Taken:]
	var want error
	var err error
	n := 0
	switch o.code {
	case opGetBytes:
		n = min(max(o.b, 0), len(material))
		p := make([]byte, n)
		if err = m.m.Get(p); n > len(rest) {
			want, n = ibuf.ErrShort, 0
			rest, p = nil, nil
		}
		if !bytes.Equal(p, rest[:n]) {
			fail("Get: other bytes")
		}
	case opGetExact:
		n = max(0, len(rest)-o.b)
		p := make([]byte, n)
		err = m.m.GetExact(p)
		switch {
		case n == 0:
			want = ibuf.ErrInvalid
		case n != len(rest):
			want, n = ibuf.ErrShort, 0
		case !bytes.Equal(p, rest):
			fail("GetExact: other bytes")
		}
	case opGetCString:
		n = max(o.b, 0)
		var text string
		text, err = m.m.GetCString(n)
		switch {
		case n == 0:
			want = ibuf.ErrInvalid
		case n > len(rest):
			want, n = ibuf.ErrShort, 0
		case bytes.IndexByte(rest[:n], 0) < 0:
			want, n = ibuf.ErrNoNUL, 0
		case text != string(rest[:bytes.IndexByte(rest, 0)]):
			fail("GetCString: %q", text)
		}
	case opGetView:
		var v ibuf.View
		v, err = m.m.GetView()
		if n = len(rest); n == 0 {
			want = ibuf.ErrShort
		}
		if !bytes.Equal(v.Bytes(), rest) {
			fail("GetView: other bytes")
		}
	}
	if want == nil {
		expect("reading a payload", err)
	} else {
		expect("reading a payload", err, want)
	}
	m.r.Taken += n
	m.check()
}

// takeFile is TakeFile or TakeFD: the file must be the message's own.
func (w *world) takeFile(m held, bare bool) {
	fd := -1
	var file *os.File
	if bare {
		fd = m.m.TakeFD()
	} else if file = m.m.TakeFile(); file != nil {
		rc, err := file.SyscallConn()
		if err == nil {
			err = rc.Control(func(n uintptr) { fd = int(n) })
		}
		expect("the file taken", err)
	}
	if m.r.Unsure {
		m.r.File = nil
	}
	if fd < 0 {
		if m.r.File != nil {
			fail("message %d: no file", m.r.Header.Type)
		}
		return
	}
	f := w.findFile(fd)
	if &f.File != m.r.File && !(m.r.Unsure && f.Unsure) {
		fail("message %d: got file %d", m.r.Header.Type, f.ID)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		fail("file %d survives exec: %#x, %v", f.ID, flags, err)
	}
	if bare {
		expect("close", os.NewSyscallError("close", unix.Close(fd)))
	} else {
		expect("close", file.Close())
	}
	f.Refs--
	w.n.delivered++
	m.r.File = nil
	m.check()
}

// closeMessage closes the i-th message: its memory is cleared, its file closed.
func (w *world) closeMessage(e *endpoint, i int) {
	m := e.msgs[i]
	m.check()
	p := m.m.Bytes()
	if m.r.File != nil {
		w.n.delivered++
	}
	expect("Message.Close", m.m.Close())
	if bytes.Count(p, []byte{0}) != len(p) {
		fail("message %d: not cleared by Close", m.r.Header.Type)
	}
	m.r.Drop()
	expect("second Close", m.m.Close())
	w.closed(e, i)
}

// closed moves the i-th message to the closed ones.
func (w *world) closed(e *endpoint, i int) {
	if e.stale = append(e.stale, e.msgs[i].m); len(e.stale) > 8 {
		e.stale = slices.Delete(e.stale, 0, 1)
	}
	e.msgs = slices.Delete(e.msgs, i, i+1)
}

// useClosed uses a closed message in every way: it must find nothing, and harm
// nobody.
func (w *world) useClosed(e *endpoint, m imsg.Message) {
	if m.Header() != (imsg.Header{}) || m.Type() != 0 || m.Len() != 0 || len(m.Bytes()) != 0 || m.HasFile() || m.FileErr() != nil {
		fail("a closed message: %+v, %d bytes, file %v", m.Header(), m.Len(), m.HasFile())
	}
	if f, fd := m.TakeFile(), m.TakeFD(); f != nil || fd >= 0 {
		fail("a closed message has a file")
	}
	_, cerr := m.GetCString(1)
	_, verr := m.GetView()
	for _, err := range []error{m.Get(make([]byte, 1)), m.GetExact(make([]byte, 1)), cerr, verr} {
		expect("reading a closed message", err, ibuf.ErrShort)
	}
	expect("Push of a closed message", imsg.Push(&e.queue, m), ibuf.ErrInvalid)
	if e.buf != nil {
		expect("Forward of a closed message", e.buf.Forward(m), ibuf.ErrInvalid)
	}
	expect("Close of a closed message", m.Close())
}

func (w *world) push(e *endpoint, i int) {
	m := e.msgs[i]
	p := m.m.Bytes()
	expect("Push", imsg.Push(&e.queue, m.m))
	if bytes.Count(p, []byte{0}) != len(p) {
		fail("message %d: not cleared by Push", m.r.Header.Type)
	}
	m.r.Taken = 0
	e.queued = append(e.queued, m.r)
	w.closed(e, i)
}

func (w *world) pop(e *endpoint) {
	same("Queue.Len", e.queue.Len(), len(e.queued))
	m, ok, err := imsg.Pop(&e.queue)
	if len(e.queued) == 0 {
		expect("Pop", err)
		same("Pop", ok, false)
		return
	}
	r := e.queued[0]
	e.queued = e.queued[1:]
	if r == nil {
		expect("Pop of a short buffer", err, ibuf.ErrShort)
		same("Pop of a short buffer", ok, false)
		return
	}
	expect("Pop", err)
	same("Pop", ok, true)
	e.msgs = append(e.msgs, held{m, r})
	e.msgs[len(e.msgs)-1].check()
}

func (w *world) pushShort(e *endpoint) {
	b := ibuf.New(imsg.HeaderSize)
	b.AddZero(imsg.HeaderSize - 1)
	e.queue.Push(b)
	e.queued = append(e.queued, nil)
}

func (w *world) clearQueue(e *endpoint) {
	e.queue.Clear()
	for _, r := range e.queued {
		if r != nil {
			if r.File != nil {
				w.n.delivered++
			}
			r.Drop()
		}
	}
	e.queued = nil
}
