package imsg

import (
	"context"
	"fmt"
	"os"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/unixmsg"
)

// A Message is a handle on one received message. It is a small value: copies
// are handles on the same message, whose payload is read from front to back by
// whichever copy is asked. The message owns its payload and its file until one
// copy is closed; then every copy is closed: it has type 0, no payload and no
// file, and closing it does nothing. What should be kept is copied before.
//
// A Message must not be used by several goroutines at a time. It outlives its
// channel. Memory is shared with neighbours: a message that stays open keeps
// up to 256 KiB from being used again. It corresponds to struct imsg.
type Message struct{ f stream.Frame }

// view is a View of the message that begins at its read position.
func (m Message) view() ibuf.View {
	v := ibuf.NewView(m.f.Bytes())
	v.Skip(m.f.Pos())
	return v
}

// Header returns type, id and pid. The pid is what the peer wrote, not what
// the kernel knows about it.
func (m Message) Header() Header {
	if p := m.f.Bytes(); len(p) >= HeaderSize {
		return parseHeader(p)
	}
	return Header{}
}

// Type returns the message's type. It corresponds to imsg_get_type.
func (m Message) Type() uint32 { return m.f.Word(typeAt) }

// ID returns the message's id ("peerid"). It corresponds to imsg_get_id.
func (m Message) ID() uint32 { return m.f.Word(idAt) }

// PID returns the process id that the peer wrote into the message: a claim,
// not a credential. It corresponds to imsg_get_pid.
func (m Message) PID() int32 { return int32(m.f.Word(pidAt)) }

// Len returns the number of payload bytes that were not read yet. It
// corresponds to imsg_get_len.
func (m Message) Len() int { return m.view().Len() }

// Bytes returns the payload that was not read yet. It aliases the message and
// is valid until Close. It corresponds to struct imsg's data.
func (m Message) Bytes() []byte { return m.view().Bytes() }

// Get reads the next len(p) bytes of the payload into p, all or nothing;
// ibuf.ErrShort otherwise. It corresponds to imsg_get_buf.
func (m Message) Get(p []byte) error {
	v := m.view()
	if err := v.Get(p); err != nil {
		return err
	}
	m.f.Skip(len(p))
	return nil
}

// Skip moves the read position n bytes on; ibuf.ErrShort, and nothing changes,
// if fewer are unread. It corresponds to ibuf_skip.
func (m Message) Skip(n int) error {
	v := m.view()
	if err := v.Skip(n); err != nil {
		return err
	}
	m.f.Skip(n)
	return nil
}

// GetExact is Get for a payload of which exactly len(p) bytes are left:
// ibuf.ErrShort for any other length, ibuf.ErrInvalid for an empty p. It
// corresponds to imsg_get_data.
func (m Message) GetExact(p []byte) error {
	if len(p) == 0 {
		return opError("get", 0, fmt.Errorf("0 bytes wanted: %w", ibuf.ErrInvalid))
	}
	if m.Len() != len(p) {
		return opError("get", 0, fmt.Errorf("payload of type %d has %d bytes, want exactly %d: %w", m.Type(), m.Len(), len(p), errLength))
	}
	return m.Get(p)
}

// get reads n bytes with one of View's methods.
func get[T any](m Message, n int, read func(*ibuf.View) (T, error)) (T, error) {
	v := m.view()
	x, err := read(&v)
	if err == nil {
		m.f.Skip(n)
	}
	return x, err
}

// GetByte reads one byte; ibuf.ErrShort if none is left.
func (m Message) GetByte() (byte, error) { return get(m, 1, (*ibuf.View).GetByte) }

// GetNet16 reads a 16-bit number in network order; ibuf.ErrShort if fewer than
// 2 bytes are left.
func (m Message) GetNet16() (uint16, error) { return get(m, 2, (*ibuf.View).GetNet16) }

// GetNet32 reads a 32-bit number in network order; ibuf.ErrShort if fewer than
// 4 bytes are left.
func (m Message) GetNet32() (uint32, error) { return get(m, 4, (*ibuf.View).GetNet32) }

// GetNet64 reads a 64-bit number in network order; ibuf.ErrShort if fewer than
// 8 bytes are left.
func (m Message) GetNet64() (uint64, error) { return get(m, 8, (*ibuf.View).GetNet64) }

// GetHost16 reads a 16-bit number in host order; ibuf.ErrShort if fewer than 2
// bytes are left.
func (m Message) GetHost16() (uint16, error) { return get(m, 2, (*ibuf.View).GetHost16) }

// GetHost32 reads a 32-bit number in host order; ibuf.ErrShort if fewer than 4
// bytes are left.
func (m Message) GetHost32() (uint32, error) { return get(m, 4, (*ibuf.View).GetHost32) }

// GetHost64 reads a 64-bit number in host order; ibuf.ErrShort if fewer than 8
// bytes are left.
func (m Message) GetHost64() (uint64, error) { return get(m, 8, (*ibuf.View).GetHost64) }

// GetString reads n bytes and returns those before the first NUL, or all if
// there is none; ibuf.ErrShort if fewer bytes are left.
func (m Message) GetString(n int) (string, error) {
	return get(m, n, func(v *ibuf.View) (string, error) { return v.GetString(n) })
}

// GetCString reads a field of n bytes that holds a NUL-terminated string and
// returns the string: ibuf.ErrNoNUL if there is no NUL in it, ibuf.ErrShort if
// fewer bytes are left. It corresponds to imsg_get_strbuf.
func (m Message) GetCString(n int) (string, error) {
	return get(m, n, func(v *ibuf.View) (string, error) { return v.GetCString(n) })
}

// GetTerminated reads a string of any length and the NUL behind it;
// ibuf.ErrNoNUL if no NUL is left.
func (m Message) GetTerminated() (string, error) {
	v := m.view()
	text, err := v.GetTerminated()
	if err == nil {
		m.f.Skip(len(text) + 1)
	}
	return text, err
}

// View returns a View of the payload that was not read yet and reads nothing.
// It aliases the message and is valid until Close.
func (m Message) View() ibuf.View { return ibuf.NewView(m.Bytes()) }

// Rewind makes the whole payload unread again.
func (m Message) Rewind() { m.f.Skip(HeaderSize - m.f.Pos()) }

// GetView reads the rest of the payload as a View, which aliases the message
// and is valid until Close; ibuf.ErrShort if nothing is left. It corresponds
// to imsg_get_ibuf.
func (m Message) GetView() (ibuf.View, error) {
	v := m.view()
	if v.Len() == 0 {
		return ibuf.View{}, opError("get", 0, fmt.Errorf("nothing is left of the payload: %w", ibuf.ErrShort))
	}
	m.f.Skip(v.Len())
	return v.View(), nil
}

// HasFile reports whether a file came along and was not taken yet.
func (m Message) HasFile() bool { return m.f.HasFile() }

// FileErr returns ErrFileLost if the header promises a file that did not
// arrive: this process's or the peer's descriptor table was full, a security
// module refused it, or file passing is off. Otherwise it returns nil.
func (m Message) FileErr() error {
	if m.f.FileLost() {
		return opError("receive", m.Type(), ErrFileLost)
	}
	return nil
}

// TakeFile moves the file to the caller, who must close it; nil if there is
// none. It is close-on-exec. Its blocking mode is what the sender made it and
// is shared with everyone who holds the file: do not call its Fd method, which
// changes it. So does net.FileConn, which a Go program needs for a net.Conn: send
// sockets that are non-blocking already. It corresponds to imsg_get_fd.
func (m Message) TakeFile() *os.File { return m.f.TakeFile() }

// TakeFD is TakeFile for a bare descriptor; -1 if there is none. It
// corresponds to imsg_get_fd.
func (m Message) TakeFD() int { return m.f.TakeFD() }

// Close gives the message up. Its payload is cleared and its memory used
// again; a file that was not taken is closed. It corresponds to imsg_free.
func (m Message) Close() error { return m.f.Close() }

// Keep makes the loop of Each that has yielded m leave it open: the caller must
// close it. It returns m.
func (m Message) Keep() Message {
	m.f.Keep()
	return m
}

// CloseAll closes messages like Close, at a price of little more than that of
// one if they came one behind the other: for those of GetBatch and
// ReceiveBatch. It returns the first error.
func CloseAll(ms []Message) (err error) {
	for len(ms) > 0 {
		first, n := ms[0].f, 1
		for n < len(ms) && ms[n].f == first.Plus(n) {
			n++
		}
		if cerr := first.CloseRun(n); err == nil {
			err = cerr
		}
		ms = ms[n:]
	}
	return err
}

// Forward queues a copy of m: its header as it came, pid 0 too, its whole
// payload, and a duplicate of its file; what was read of m is unread again. m
// stays the caller's, with its file, and can be forwarded more than once. A
// file that was lost on the way to m is lost for the next reader too: what it
// gets says so. To keep a file to oneself, take it first.
//
// The errors are Compose's, ErrNoFDPass for a message with a file among them,
// and ibuf.ErrInvalid for a closed message. It corresponds to imsg_forward, but
// C does not forward files.
func (b *Buf) Forward(m Message) error {
	f, err := m.prepareForward()
	if err != nil {
		return b.opError("forward", m.Type(), err)
	}
	if m.f.FileLost() {
		err = b.out.composeLost(m.Header(), m.Bytes())
	} else if err = b.out.compose(m.Header(), f, true, [][]byte{m.Bytes()}); err != nil && f != nil {
		f.Close()
	}
	return b.opError("forward", m.Type(), err)
}

// Forward sends a copy of m as Buf.Forward queues it, and returns when the
// kernel has it whole. The errors are Send's.
func (c *Conn) Forward(ctx context.Context, m Message) error {
	f, err := m.prepareForward()
	if err == nil {
		err = c.send(ctx, "forward", letter{m.Header(), f, m.f.FileLost()}, [][]byte{m.Bytes()})
	}
	if f != nil {
		f.Close()
	}
	return c.opError("forward", m.Type(), err)
}

// prepareForward rewinds m and returns a duplicate of its file, or nil.
func (m Message) prepareForward() (f *os.File, err error) {
	if len(m.f.Bytes()) < HeaderSize {
		return nil, fmt.Errorf("the message is closed: %w", ibuf.ErrInvalid)
	}
	m.Rewind()
	m.f.Descriptor(func(fd int) {
		var dup int
		if dup, err = unixmsg.Dup(fd); err == nil {
			f = os.NewFile(uintptr(dup), "imsg")
		}
	})
	return f, err
}

// Push moves m, with its file, to the end of q, as if nothing of its payload
// had been read. The queue holds a copy, so that a message that waits long
// does not hold on to its neighbours' memory; m is closed. The copy's header is
// in the layout of Current, whatever the peer speaks. A closed message is
// ibuf.ErrInvalid. It corresponds to imsg_ibufq_push.
func Push(q *ibuf.Queue, m Message) error {
	p := m.f.Bytes()
	if len(p) < HeaderSize {
		return opError("push", 0, fmt.Errorf("the message is closed: %w", ibuf.ErrInvalid))
	}
	file := m.HasFile() || m.f.FileLost()
	b := ibuf.New(len(p))
	b.Add(p)
	putHeader(b.Bytes(), parseHeader(p), Current.lengthWord(len(p), file))
	b.SetFile(m.TakeFile())
	m.Close()
	return q.Push(b)
}

// Pop moves the oldest message of q, which begins with a header, to the
// caller; ok is false if q is empty. A buffer that is shorter than a header is
// closed and reported as ibuf.ErrShort. It corresponds to imsg_ibufq_pop.
func Pop(q *ibuf.Queue) (m Message, ok bool, err error) {
	b := q.Pop()
	if b == nil {
		return Message{}, false, nil
	}
	b.Rewind()
	p := b.Bytes()
	if len(p) < HeaderSize {
		b.Close()
		return Message{}, false, opError("pop", 0, fmt.Errorf("a buffer of %d bytes is no message, which has %d at least: %w", len(p), HeaderSize, ibuf.ErrShort))
	}
	_, marked := Current.parseLength(p)
	return Message{stream.NewFrame(p, HeaderSize, b.TakeFile(), marked)}, true, nil
}
