package imsg

import "example.org/imsg/ibuf"

// A Builder is a message under construction. It is an ibuf.Buffer for the
// payload: Add, AddNet32 and the others append to it (imsg_add), SetMaxSize
// lowers the limit of the payload (imsg_set_maxsize), SetFile attaches a file
// that the message then owns. An Add that fails leaves the message as it was.
//
// A Builder must be committed or discarded. It must not be used by several
// goroutines at a time.
type Builder struct {
	*ibuf.Buffer
	header Header
	to     bufferQueuer
}

// A bufferQueuer is a Buf or a Conn. (A function would cost an allocation.)
type bufferQueuer interface {
	queueBuffer(Header, *ibuf.Buffer) error
}

// newBuilder makes a Builder with room for n bytes at once.
func (s *settings) newBuilder(h Header, n int, to bufferQueuer) (*Builder, error) {
	if err := s.checkSize(n); err != nil {
		return nil, s.opError("create", h.Type, err)
	}
	limit := s.maxMessage() - HeaderSize
	if limit == 0 {
		return &Builder{ibuf.New(0), s.withPID(h), to}, nil
	}
	buf, err := ibuf.NewDynamic(n, limit)
	if err != nil {
		return nil, s.opError("create", h.Type, err)
	}
	return &Builder{buf, s.withPID(h), to}, nil
}

// Create begins a message with room for n payload bytes; more can be added, up
// to the channel's maximum. ErrTooLarge if n is above it. It corresponds to
// imsg_create.
func (b *Buf) Create(h Header, n int) (*Builder, error) {
	return b.newBuilder(h, n, b)
}

// queueBuffer is what Builder.Commit calls.
func (b *Buf) queueBuffer(h Header, buf *ibuf.Buffer) error {
	return b.opError("commit", h.Type, b.out.composeBuffer(h, buf))
}

// Create is Buf.Create; Commit queues the message like Conn.Compose.
func (c *Conn) Create(h Header, n int) (*Builder, error) {
	return c.newBuilder(h, n, c)
}

// Commit queues the message. If it returns nil the message belongs to the
// channel; otherwise (ErrQueueFull, for example) it is still the caller's, who
// can try again or discard it. It corresponds to imsg_close.
func (b *Builder) Commit() error {
	if b.Buffer == nil {
		return opError("commit", b.header.Type, ibuf.ErrInvalid)
	}
	if err := b.to.queueBuffer(b.header, b.Buffer); err != nil {
		return err
	}
	b.Buffer = nil
	return nil
}

// Discard abandons the message and closes its file. After Commit it does
// nothing, so it can be deferred. It corresponds to ibuf_free.
func (b *Builder) Discard() {
	b.Buffer.Close()
	b.Buffer = nil
}
