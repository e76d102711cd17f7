package ibuf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"example.org/imsg/internal/stream"
)

// maxGather is how many pieces one write carries at most (IOV_MAX allows 1024).
const maxGather = 64

// maxHeader is the longest header NewMsgBufReader accepts, as in C: half of what C
// reads at once.
const maxHeader = 65535 / 2

// A HeaderFunc looks at a message's header, which it must not keep, and tells
// the size of the whole message, header included, and whether the header says
// that a file comes with it. An error ends the stream. It must check the size
// against a maximum before it returns it: the MsgBuf holds whole messages in
// memory. It corresponds to the readhdr callback of msgbuf_new_reader.
type HeaderFunc func(hdr []byte) (size int, file bool, err error)

// A MsgReader receives bytes and at most one descriptor, -1 for none, with a
// single recvmsg(2). lost says that a descriptor was dropped on the way, for
// example because the process's table is full. 0 bytes are the end of the
// stream, and syscall.EAGAIN means that nothing has arrived.
type MsgReader interface {
	ReadMsg(p []byte) (n, fd int, lost bool, err error)
}

// A MsgWriter sends the bytes of bufs, in order, and with the first of them
// the file, if it is not nil, with a single sendmsg(2). syscall.EAGAIN and
// syscall.ENOBUFS mean that nothing can be sent for now.
type MsgWriter interface {
	WriteMsg(bufs [][]byte, file *os.File) (n int, err error)
}

// A MsgBuf queues messages in both directions: Buffers to be written, and
// messages that were read and cut by a header callback. It corresponds to
// struct msgbuf.
//
// A MsgBuf must not be used by several goroutines at a time.
type MsgBuf struct {
	in  *stream.Framer
	out stream.Writer
}

// NewMsgBuf returns a MsgBuf that writes. It corresponds to msgbuf_new.
func NewMsgBuf() *MsgBuf { return new(MsgBuf) }

// NewMsgBufReader returns a MsgBuf that reads too: messages begin with a header of
// hdrSize bytes (1 to 32767, otherwise ErrInvalid) that h understands. It
// corresponds to msgbuf_new_reader.
func NewMsgBufReader(hdrSize int, h HeaderFunc) (*MsgBuf, error) {
	if hdrSize < 1 || hdrSize > maxHeader {
		return nil, fmt.Errorf("ibuf: header of %d bytes: %w", hdrSize, ErrInvalid)
	}
	return &MsgBuf{in: &stream.Framer{HeaderSize: hdrSize, Header: h}}, nil
}

// Push queues b to be written. The MsgBuf owns it and its file from here on.
// A buffer that is nil, closed or in a queue already is ErrInvalid.
// It corresponds to ibuf_close.
func (m *MsgBuf) Push(b *Buffer) error {
	if err := b.give(); err != nil {
		return err
	}
	m.out.AppendOwned(0, b.Bytes(), b.TakeFile(), func() {
		b.queued = false
		b.Close()
	})
	return nil
}

// Concat queues everything that from holds; from is empty afterwards. It
// corresponds to msgbuf_concat.
func (m *MsgBuf) Concat(from *Queue) {
	for b := from.Pop(); b != nil; b = from.Pop() {
		m.Push(b)
	}
}

// QueueLen returns the number of Buffers that are not completely written. It
// corresponds to msgbuf_queuelen.
func (m *MsgBuf) QueueLen() int { return m.out.Len() }

// Get returns the oldest message that was read, or nil. The caller must close
// it. It corresponds to msgbuf_get.
func (m *MsgBuf) Get() *Buffer {
	if m.in == nil {
		return nil
	}
	f, ok := m.in.Next()
	if !ok {
		return nil
	}
	return newReceived(f.Bytes(), f.TakeFile(), func() { f.Close() })
}

// Clear discards everything queued in both directions, with its files. It
// corresponds to msgbuf_clear and msgbuf_free.
func (m *MsgBuf) Clear() {
	m.out.Clear()
	if m.in != nil {
		m.in.Clear()
	}
}

// ReadStream reads once from r and cuts what arrived into messages. It returns
// nil when nothing could be read for now (syscall.EAGAIN), io.EOF when the
// stream ended between messages, io.ErrUnexpectedEOF when inside one,
// ErrInvalid for a MsgBuf that does not read, and the callback's error. It
// corresponds to ibuf_read.
func (m *MsgBuf) ReadStream(r io.Reader) error {
	if m.in == nil {
		return fmt.Errorf("ibuf: read without a header callback: %w", ErrInvalid)
	}
	p := m.in.Buffer()
	n, err := r.Read(p)
	if n > 0 {
		if ferr := m.in.Advance(n, -1, false, n == len(p)); ferr != nil {
			return ferr
		}
		if err == io.EOF {
			err = nil // the next read says so again
		}
	}
	return m.readErr(err)
}

func (m *MsgBuf) readErr(err error) error {
	switch {
	case err == io.EOF:
		return m.in.EOF()
	case err != nil && errors.Is(err, syscall.EAGAIN):
		m.in.Release()
		return nil
	}
	return err
}

// Fill is ReadStream for bytes and files. It corresponds to msgbuf_read.
func (m *MsgBuf) Fill(r MsgReader) error {
	if m.in == nil {
		return fmt.Errorf("ibuf: read without a header callback: %w", ErrInvalid)
	}
	p := m.in.Buffer()
	n, fd, lost, err := r.ReadMsg(p)
	if err != nil {
		return m.readErr(err)
	}
	if ferr := m.in.Advance(n, fd, lost, n == len(p)); ferr != nil {
		return ferr
	}
	if n == 0 {
		return m.in.EOF()
	}
	return nil
}

// WriteStream writes what is queued to w, without the files, which are closed:
// all of it, or up to the first error. When w can take no more for now
// (syscall.EAGAIN, syscall.ENOBUFS) it returns nil and keeps the rest. It
// corresponds to ibuf_write.
func (m *MsgBuf) WriteStream(w io.Writer) error {
	for m.out.Len() > 0 {
		bufs, _ := m.out.Pending(1)
		if len(bufs) == 0 { // nothing but empty Buffers
			m.out.Consume(0)
			continue
		}
		n, err := w.Write(bufs[0])
		if err := m.wrote(n, err); err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// Drain writes once, up to the next file: call it again while QueueLen says
// that something is left. When w can take no more for now it returns nil. It
// corresponds to msgbuf_write.
func (m *MsgBuf) Drain(w MsgWriter) error {
	if m.out.Len() == 0 {
		return nil
	}
	var n int
	var err error
	bufs, file := m.out.Pending(maxGather)
	if len(bufs) > 0 {
		n, err = w.WriteMsg(bufs, file)
	}
	return m.wrote(n, err)
}

func (m *MsgBuf) wrote(n int, err error) error {
	if err == nil || n > 0 {
		m.out.Consume(n)
	}
	if err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS)) {
		return nil
	}
	return err
}
