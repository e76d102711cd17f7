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
	commit func(Header, *ibuf.Buffer) error
}

// newBuilder makes a Builder with room for n bytes at once.
func (s *settings) newBuilder(h Header, n int, commit func(Header, *ibuf.Buffer) error) (*Builder, error) {
	if err := s.checkSize(n); err != nil {
		return nil, s.opError("create", h.Type, err)
	}
	limit := s.maxMessage() - HeaderSize
	if limit == 0 {
		return &Builder{ibuf.New(0), s.withPID(h), commit}, nil
	}
	buf, err := ibuf.NewDynamic(n, limit)
	if err != nil {
		return nil, s.opError("create", h.Type, err)
	}
	return &Builder{buf, s.withPID(h), commit}, nil
}

// Create begins a message with room for n payload bytes; more can be added, up
// to the channel's maximum. ErrTooLarge if n is above it. It corresponds to
// imsg_create.
func (b *Buf) Create(h Header, n int) (*Builder, error) {
	return b.newBuilder(h, n, func(h Header, buf *ibuf.Buffer) error {
		return b.opError("commit", h.Type, b.out.composeBuffer(h, buf))
	})
}

// Create is Buf.Create; Commit queues the message like Conn.Compose.
func (c *Conn) Create(h Header, n int) (*Builder, error) {
	return c.newBuilder(h, n, c.queueBuffer)
}

// Commit queues the message. If it returns nil the message belongs to the
// channel; otherwise (ErrQueueFull, for example) it is still the caller's, who
// can try again or discard it. It corresponds to imsg_close.
func (b *Builder) Commit() error {
	if b.Buffer == nil {
		return opError("commit", b.header.Type, ibuf.ErrInvalid)
	}
	if err := b.commit(b.header, b.Buffer); err != nil {
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
