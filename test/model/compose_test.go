//go:build linux

package model_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/test/wireref"
)

// A outgoing is a message to be sent.
type outgoing struct {
	h       imsg.Header
	payload []byte
	file    *os.File
	f       *testutil.File // what it is; nil if there is no file or a closed one
	asis    bool           // process id 0 stays
}

// contents returns n bytes that are like no others.
func (w *world) contents(n int) []byte {
	w.seq++
	n = min(n, 128<<10)
	at := int(w.seq) * 31 % (len(material) - n)
	return material[at : at+n : at+n]
}

// header is that of the message with the last contents.
func (w *world) header() imsg.Header {
	h := imsg.Header{Type: w.seq, ID: w.seq * 3}
	if w.seq%4 > 0 {
		h.PID = int32(w.seq) - 10
	}
	return h
}

// size resolves a size that depends on the limit.
func (e *endpoint) size(n int) int {
	if e.kind == rawEnd {
		e = e.peer
	}
	limit := e.rx.Limit - imsg.HeaderSize
	switch n {
	case maxSize:
		return limit
	case overMax:
		return limit + 1
	case underMax:
		return max(0, limit-1)
	}
	return n
}

// message makes a message of an operation's arguments.
func (w *world) message(e *endpoint, size, file int) *outgoing {
	m := &outgoing{payload: w.contents(e.size(size))}
	m.h = w.header()
	m.f, m.file = w.file(file)
	return m
}

// file makes the file that an argument asks for.
func (w *world) file(arg int) (*testutil.File, *os.File) {
	if arg == 0 {
		return nil, nil
	}
	f, file := w.createFile()
	if arg == 2 {
		file.Close()
		f.Refs--
		w.n.returned++
		return nil, file
	}
	return f, file
}

// parts calls f with the payload in one, two or no parts, which are something
// else afterwards.
func (w *world) parts(m *outgoing, f func(...[]byte) error) error {
	w.scratch = append(w.scratch[:0], m.payload...)
	p := w.scratch
	defer func() { copy(p, material) }()
	switch {
	case len(p) == 0:
		return f()
	case m.h.Type%3 == 0:
		return f(p[:len(p)/3], nil, p[len(p)/3:])
	}
	return f(p)
}

// keep closes the file of a message that was refused: it is ours.
func (w *world) keep(m *outgoing) {
	if m.f == nil {
		return
	}
	expect("close of a refused file", m.file.Close())
	if m.f.Refs--; m.f.Refs == 0 {
		w.n.returned++
	}
}

// refuses says why e must refuse m, whatever is queued.
func (e *endpoint) refuses(m *outgoing) (why []error) {
	if len(m.payload) > e.rx.Limit-imsg.HeaderSize {
		why = append(why, imsg.ErrTooLarge)
	}
	if m.file != nil && !e.fdpass {
		why = append(why, imsg.ErrNoFDPass)
	}
	if m.file != nil && m.f == nil {
		why = append(why, os.ErrClosed)
	}
	return why
}

// full reports whether a limit of the queue is reached.
func (e *endpoint) full(m *outgoing) bool {
	files := e.tx.files
	if m.file != nil {
		files++
	}
	return len(e.tx.queue) > 0 && (e.tx.size+imsg.HeaderSize+len(m.payload) > e.queueBytes ||
		e.queueLen > 0 && len(e.tx.queue) >= e.queueLen || files > e.queueFiles)
}

// own fills in what 0 stands for.
func (m *outgoing) own() {
	if m.h.PID == 0 && !m.asis {
		m.h.PID = int32(os.Getpid())
	}
}

// push queues m in the model.
func (e *endpoint) push(m *outgoing, owned bool) {
	m.own()
	r := &refMsg{b: wireref.Encode(wireref.Dialect(e.rx.Dialect), wireref.Header(m.h), m.payload, m.f != nil), owned: owned}
	if m.f != nil {
		r.file = &m.f.File
	}
	e.tx.push(r)
	e.event(imsg.Sent, m.h, m.payload, m.f != nil, false)
}

// queues compares the outcome of an operation that queues m and reports whether it did.
func (e *endpoint) queues(what string, m *outgoing, err error) bool {
	if e.tx.err != nil {
		expect(what, err, e.tx.err)
		return false
	}
	why := e.refuses(m)
	if e.full(m) {
		why = append(why, imsg.ErrQueueFull)
	}
	expect(what, err, why...)
	if err != nil {
		return false
	}
	e.push(m, true)
	return true
}

func (w *world) compose(e *endpoint, o op) {
	m := w.message(e, o.a, o.b)
	err := w.parts(m, func(p ...[]byte) error {
		if e.buf != nil {
			return e.buf.Compose(m.h, m.file, p...)
		}
		return e.conn.Compose(m.h, m.file, p...)
	})
	if !e.queues("Compose", m, err) {
		w.keep(m)
	}
}

func (w *world) composeBuffer(e *endpoint, o op) {
	m := w.message(e, o.a, o.b)
	b := ibuf.New(o.c + len(m.payload))
	b.Add(material[:o.c])
	b.Add(m.payload)
	b.Skip(o.c)
	b.SetFile(m.file)
	if !e.queues("ComposeBuffer", m, e.buf.ComposeBuffer(m.h, b)) {
		if !bytes.Equal(b.Bytes(), m.payload) || b.TakeFile() != m.file {
			fail("a refused buffer has changed")
		}
		b.Close()
		w.keep(m)
	}
}

func (w *world) forward(e *endpoint, o op) bool {
	from := e
	if o.b == 1 {
		from = e.peer
	}
	if len(from.msgs) == 0 {
		return false
	}
	f := from.msgs[o.a%len(from.msgs)]
	if f.m.HasFile() || f.m.FileErr() != nil {
		return false // TestForward and TestForwardLost have those
	}
	f.r.Taken = 0
	e.queues("Forward", &outgoing{h: imsg.Header(f.r.Header), payload: f.r.Payload, asis: true}, e.buf.Forward(f.m))
	f.check()
	return true
}

// A builder is a message under construction.
type builder struct {
	outgoing
	bd  *imsg.Builder
	max int
}

func (w *world) create(e *endpoint, o op) {
	n := e.size(o.a)
	b := &builder{max: e.rx.Limit - imsg.HeaderSize}
	w.seq++
	b.h = w.header()
	bd, err := e.ch.Create(b.h, n)
	if n > b.max {
		expect("Create", err, imsg.ErrTooLarge)
		return
	}
	expect("Create", err)
	b.bd = bd
	if e.builders = append(e.builders, b); len(e.builders) > 3 {
		w.discard(e, 0)
	}
}

func (w *world) add(b *builder, n, how int) {
	p := w.contents(n)
	var err error
	switch how {
	case 0:
		err = b.bd.Add(p)
	case 1:
		p = make([]byte, len(p))
		err = b.bd.AddZero(len(p))
	case 2:
		p = binary.BigEndian.AppendUint32(nil, w.seq)
		err = b.bd.AddNet32(uint32(w.seq))
	}
	if len(b.payload)+len(p) > b.max {
		expect("Add", err, ibuf.ErrTooLarge)
	} else {
		expect("Add", err)
		b.payload = append(b.payload, p...)
	}
	if !bytes.Equal(b.bd.Bytes(), b.payload) {
		fail("a builder of %d bytes, want %d, or others", b.bd.Len(), len(b.payload))
	}
}

func (b *builder) setMax(n int) {
	err := b.bd.SetMaxSize(n)
	if n < len(b.payload) || n > b.max {
		expect("Builder.SetMaxSize", err, ibuf.ErrTooLarge)
		return
	}
	expect("Builder.SetMaxSize", err)
	b.max = n
}

func (w *world) setFile(b *builder, arg int) {
	if b.f != nil { // it is the builder's, which closes it
		b.f.Refs--
	}
	b.f, b.file = w.file(arg)
	b.bd.SetFile(b.file)
}

func (w *world) commit(e *endpoint, i int) {
	b := e.builders[i]
	if !e.queues("Commit", &b.outgoing, b.bd.Commit()) {
		if !bytes.Equal(b.bd.Bytes(), b.payload) || b.bd.HasFile() != (b.file != nil) {
			fail("a refused builder has changed")
		}
		return
	}
	e.builders = slices.Delete(e.builders, i, i+1)
	expect("second Commit", b.bd.Commit(), ibuf.ErrInvalid)
	b.bd.Discard()
}

func (w *world) discard(e *endpoint, i int) {
	b := e.builders[i]
	b.bd.Discard()
	if b.f != nil {
		b.f.Refs--
	}
	e.builders = slices.Delete(e.builders, i, i+1)
}
