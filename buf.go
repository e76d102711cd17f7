package imsg

import (
	"iter"
	"os"
	"syscall"
	"time"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/unixmsg"
)

// A Buf is one side of a channel for programs with an event loop of their own:
// they wait until the socket can be read or written and then call ReadSocket
// or WriteSocket. Its descriptor may be blocking or not; Buf does not close it
// and changes no option of it. If it was non-blocking when the Buf was made, no
// call waits (but Flush), even if a holder of a duplicate makes it blocking. A
// Buf must not be used by several goroutines at a time. It corresponds to struct
// imsgbuf.
type Buf struct {
	settings
	fd    int
	waits bool // in a system call, as fd is a blocking descriptor
	spin  spinner
	in    input
	out   output
	rerr  error
}

// NewBuf makes one side of a channel of the descriptor fd, which it borrows: a
// stream socket of the unix domain that must stay open while the Buf is used.
// cfg may be nil. For a descriptor of another kind ReadSocket, WriteSocket and
// everything that queues a message return an error that says what it is, and
// matches ENOTSOCK, EAFNOSUPPORT or EPROTOTYPE. It corresponds to imsgbuf_init.
func NewBuf(fd int, cfg *Config) *Buf {
	b := &Buf{fd: fd, waits: unixmsg.Blocking(fd)}
	b.settings.init(fd, cfg)
	if !b.waits {
		b.flags = unixmsg.DontWait
	}
	b.spin.busy = b.cfg.BusyPoll
	b.in.init(&b.settings)
	b.out.c = &b.settings
	if err := unixmsg.CheckStream(fd); err != nil && !isAny(err, syscall.EBADF) { // the first call tells that
		b.rerr = opError("open", 0, err) // like imsgbuf_init, NewBuf cannot fail
		b.out.err = b.rerr
	}
	return b
}

// AllowFDPass enables file passing in both directions. It corresponds to
// imsgbuf_allow_fdpass.
func (b *Buf) AllowFDPass() { b.cfg.AllowFDPass = true }

// Dialect returns the dialect in force; Auto until the peer's is known.
func (b *Buf) Dialect() Dialect { return b.spoken() }

// SetDialect sets the dialect in force, in both directions: for whoever learns
// from elsewhere what the peer of an Auto channel speaks, as a relay does from
// its other side. Auto listens again. Messages that have arrived keep their
// meaning.
func (b *Buf) SetDialect(d Dialect) {
	b.dialect.Store(uint32(d))
	b.in.follow(d)
}

// SetMaxSize sets the maximum payload size to n bytes, not counting the
// header, in both directions; ErrTooLarge if n is impossible. Legacy allows
// 65519 bytes, Current and Auto 2147483631; once Auto finds that the peer
// speaks Legacy, its limit is Legacy's at most. It corresponds to
// imsgbuf_set_maxsize.
func (b *Buf) SetMaxSize(n int) error { return b.setMaxSize(n) }

// ReadSocket receives once from the socket; take the messages with Get or All
// afterwards, also when there is an error. There may be more to read then, and
// nil does not tell: the event loop must be level-triggered (poll, or epoll
// without EPOLLET). It returns nil when nothing has
// arrived (EAGAIN), io.EOF when the peer has closed the channel between
// messages, ErrQueueFull when Config.MaxPendingBytes wait to be taken, and an
// *OpError otherwise: io.ErrUnexpectedEOF inside a message, *HeaderError, or
// the system call's. Errors of the stream are final and are returned again. It
// corresponds to imsgbuf_read.
func (b *Buf) ReadSocket() error {
	if b.rerr != nil {
		return b.rerr
	}
	if n := b.in.framer.Pending(); n >= b.cfg.MaxPendingBytes {
		return opError("receive", 0, b.in.full(n))
	}
	if b.waits { // sleep later
		b.spin.until(func() bool { return unixmsg.Poll(b.fd, false, 0) == nil }, never)
	}
	err := b.in.receive(b.fd, b.in.framer.Buffer())
	if isWouldBlock(err) {
		b.waits = false
		b.in.framer.Release()
		return nil
	}
	if err == nil {
		err = b.in.deliver()
	}
	b.rerr = receiveError(err)
	return b.rerr
}

// Get takes the oldest message that has arrived; ok is false if there is none.
// The caller must close it. It corresponds to imsgbuf_get and imsg_get.
func (b *Buf) Get() (m Message, ok bool) { return b.in.next() }

// GetBatch is Get for up to len(ms) messages and returns how many there were.
// The caller must close each; CloseAll does it.
func (b *Buf) GetBatch(ms []Message) (n int) { return b.in.take(ms, 0) }

// All takes the messages that have arrived, one after the other. The loop's
// body must close each; see Each. It corresponds to calling imsgbuf_get in a
// loop.
func (b *Buf) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for m, ok := b.Get(); ok; m, ok = b.Get() {
			if !yield(m) {
				return
			}
		}
	}
}

// Each is All, but lends the messages to the loop's body: the loop closes them,
// which is cheaper than Close, each after its body or soon after that and at
// the latest when the loop ends. A message that the body has called Keep for is
// the caller's to close. (So slices.Collect, which only sees the messages, is
// for All.)
func (b *Buf) Each() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		var run stream.Run
		defer run.Flush()
		for m, ok := b.Get(); ok; m, ok = b.Get() {
			more := yield(m)
			if !m.f.Kept() {
				run.Close(m.f)
			}
			if !more {
				return
			}
		}
	}
}

// Compose queues a message with the payload data, whose parts are copied one
// behind the other. A file f, if not nil, belongs to the queue when Compose
// has returned nil: it is closed after it was sent, or by Clear. On an error
// nothing was queued and f is still the caller's: ErrTooLarge, ErrQueueFull,
// ErrNoFDPass, os.ErrClosed for a file that is. It corresponds to imsg_compose
// and imsg_composev.
func (b *Buf) Compose(h Header, f *os.File, data ...[]byte) error {
	return b.opError("compose", h.Type, b.out.compose(b.withPID(h), f, true, data))
}

// ComposeBatch is Compose for many messages, for less. It returns how many were
// queued: all of them if the error is nil, and otherwise those before the one
// that the error is about.
func (b *Buf) ComposeBatch(ms []Outgoing) (n int, err error) { return b.out.composeBatch(ms) }

// ComposeBuffer is Compose for what is unread of buf. buf and a file that it
// has belong to the queue if the error is nil: a second ComposeBuffer or a Push
// of buf is ibuf.ErrInvalid, as is that of a buffer that was closed. Up to 4096
// bytes, or if buf has much more memory than that, they are copied, and not
// otherwise. It corresponds to imsg_compose_ibuf.
func (b *Buf) ComposeBuffer(h Header, buf *ibuf.Buffer) error {
	return b.opError("compose", h.Type, b.out.composeBuffer(b.withPID(h), buf))
}

// QueueLen returns the number of messages that are not completely written. It
// corresponds to imsgbuf_queuelen.
func (b *Buf) QueueLen() int { return b.out.q.Len() }

// WriteSocket writes once: what is queued, up to the next message with a file.
// Call it again when the socket is writable while QueueLen is not 0. It
// returns nil when the socket takes nothing for now (EAGAIN, ENOBUFS,
// ETOOMANYREFS; in the last two cases, in which the socket looks writable
// nevertheless, it has slept for a millisecond so that an event loop does not
// spin). ErrFileNotSent in an *OpError, which has the message's type, says that
// this message was taken out of the queue; call it again for the others. Other
// errors, such as EPIPE, are final: what was queued is discarded, its files are
// closed, and every later call returns the error. It corresponds to
// imsgbuf_write.
func (b *Buf) WriteSocket() error {
	err := b.write()
	switch {
	case isTemporary(err):
		time.Sleep(time.Millisecond)
		return nil
	case isWouldBlock(err):
		return nil
	}
	return err
}

// Flush writes until nothing is queued. It waits in poll(2) while the socket
// takes nothing: for ever, if the peer never reads. Errors are those of
// WriteSocket, and those of poll, which are not final: nothing was discarded,
// and Flush can be called again. Messages whose files could not be sent do not
// keep it from sending the others; with more than one, what it returns has
// their errors joined. It corresponds to imsgbuf_flush, but does not spin.
func (b *Buf) Flush() error {
	var refused []error
	for pause := time.Millisecond; b.QueueLen() > 0 || b.out.err != nil; {
		err := b.write()
		switch {
		case err == nil:
			pause = time.Millisecond
		case isTemporary(err):
			time.Sleep(pause)
			pause = min(2*pause, maxPause)
		case isWouldBlock(err):
			if err := unixmsg.Poll(b.fd, true, -1); err != nil {
				return joinErrors(append(refused, opError("send", 0, err)))
			}
		case b.out.err == nil:
			refused = append(refused, err)
		default:
			return err
		}
	}
	return joinErrors(refused)
}

// write makes one system call. It returns those errors bare that go away, and
// keeps those that are final.
func (b *Buf) write() error {
	if b.out.err != nil || b.QueueLen() == 0 {
		return b.out.err
	}
	w := b.out.pending(b.fd)
	n, err := w.transmit(b.fd, b.flags)
	switch {
	case err == nil:
		b.out.wrote(n)
	case w.file != nil && isFileError(b.fd, err):
		_, _, err = b.out.reject(err)
	case !isWouldBlock(err) && !isTemporary(err):
		b.out.q.Clear()
		b.out.err = opError("send", 0, err)
		return b.out.err
	}
	return err
}

// Clear discards everything that is queued to be sent and everything that was
// received and not taken, with its files. A message that was sent or received
// in part stays torn, so do this at a channel's end. The descriptor stays open.
// It corresponds to imsgbuf_clear.
func (b *Buf) Clear() {
	b.in.framer.Clear()
	b.out.q.Clear()
}

// Stats returns what the channel has moved since NewBuf.
func (b *Buf) Stats() Stats { return Stats{Sent: b.out.sent(), Received: b.in.count} }

// PeerCred asks the kernel who is at the other end. On a socketpair that is
// the process that made the pair, even after it gave that end to another one;
// on a connection, whoever called connect(2) or listen(2).
// errors.ErrUnsupported where the system cannot tell.
func (b *Buf) PeerCred() (Cred, error) { return peerCred(b.fd) }
