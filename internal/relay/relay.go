// Package relay passes messages on between two channels and shows them: what
// imsgctl's proxy and run do.
//
// Messages go on as they came: header, pid 0, and payload as they are, files as
// the same open file description, a lost file as lost, the end of one direction
// as the end of that direction. What came with one read leaves with one write.
// Nothing is read from one side before the other has taken what came before, so
// a slow reader stops the sender as it does without a relay.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/internal/capture"
	"golang.org/x/sys/unix"
)

// DefaultMaxSize is the largest payload of a relay if its Config does not say:
// OpenBGPD's, the most that any program that is known allows.
const DefaultMaxSize = 128 << 10

// maxLegacy is the largest payload that the legacy dialect has.
const maxLegacy = 1<<16 - 1 - imsg.HeaderSize

// A Config says how a Relay behaves.
type Config struct {
	// Dialect is that of both sides. With imsg.Auto the side that tells it
	// first decides: until then both dialects are the same bytes.
	Dialect imsg.Dialect

	MaxSize int    // of a payload in bytes; 0: DefaultMaxSize
	Name    string // of the channels, in records

	// Record, if not nil, gets every message before it goes on.
	Record *Recorder

	// Report is told what befell a connection, an *Error for example, from any
	// goroutine. It must not be nil.
	Report func(error)
}

// A Relay passes messages on over any number of connections at a time.
type Relay struct {
	cfg         Config
	channels    atomic.Int64
	unreachable chan struct{} // has a token if a target was
}

// New returns a Relay.
func New(cfg Config) *Relay {
	if cfg.MaxSize == 0 {
		cfg.MaxSize = DefaultMaxSize
		if cfg.Dialect == imsg.Legacy {
			cfg.MaxSize = maxLegacy
		}
	}
	return &Relay{cfg: cfg, unreachable: make(chan struct{}, 1)}
}

// ConnConfig is how the Conns that Pipe gets must be made.
func (r *Relay) ConnConfig() *imsg.Config {
	return &imsg.Config{Dialect: r.cfg.Dialect, AllowFDPass: true}
}

// Channels returns how many connections there have been.
func (r *Relay) Channels() int { return int(r.channels.Load()) }

// An End is one of the two ends that a Relay stands between.
type End struct {
	Conn *imsg.Conn // ours, to it
	Who  capture.Endpoint
}

// An Error is what went wrong with one of a Relay's connections. The others
// go on.
type Error struct {
	Channel int
	From    capture.Endpoint // whose messages it concerns
	Offset  int64            // bytes of whole messages that From had sent before
	Err     error
}

// Error names the connection, the process and the place.
func (e *Error) Error() string {
	return fmt.Sprintf("channel %d: %s, at byte %d of what it sent: %v", e.Channel, Process(e.From), e.Offset, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Pipe passes messages on between a, the end that connected, and b until both
// have ended or ctx ends. It closes neither Conn, but they are of no use
// afterwards. What goes wrong is reported.
func (r *Relay) Pipe(ctx context.Context, a, b End) {
	r.pipe(ctx, r.nextChannel(), a, b)
}

func (r *Relay) nextChannel() int { return int(r.channels.Add(1)) }

func (r *Relay) pipe(ctx context.Context, channel int, a, b End) {
	for _, e := range []End{a, b} {
		if err := e.Conn.SetMaxSize(r.cfg.MaxSize); err != nil {
			r.cfg.Report(err)
			return
		}
	}
	var said atomic.Bool
	defer context.AfterFunc(ctx, func() { said.Store(true); hangUp(a.Conn); hangUp(b.Conn) })()
	var both sync.WaitGroup
	for _, w := range []*way{{from: a, to: b, dir: capture.DirOut}, {from: b, to: a, dir: capture.DirIn}} {
		w.Relay, w.channel, w.said = r, channel, &said
		both.Go(w.run)
	}
	both.Wait()
}

// A way is one direction of a connection.
type way struct {
	*Relay
	channel  int
	said     *atomic.Bool // something was reported: what follows is its consequence
	dir      capture.Dir
	from, to End
	offset   int64 // bytes of whole messages that were received

	// The messages that are passed on, and the files among them and what was lost.
	out   []imsg.Outgoing
	files []capture.File
}

// most is how many messages go on together. The kernel takes some 200 kB at a
// time, and most messages have a hundred bytes or more.
const most = 1024

// run passes messages on until there are no more.
func (w *way) run() {
	ms := make([]imsg.Message, most)
	src, dst := w.from.Conn, w.to.Conn
	for {
		n, err := src.ReceiveBatch(context.Background(), ms)
		if n > 0 {
			err = w.pass(ms[:n])
			imsg.CloseAll(ms[:n])
			switch {
			case err == nil:
				continue
			case isGone(err):
				w.report(fmt.Errorf("%s has gone and takes nothing any more", Process(w.to.Who)))
			default:
				w.report(err)
				hangUp(dst)
			}
			hangUpReading(src)
			drain(src, ms)
			return
		}
		switch {
		case err == io.EOF:
			dst.CloseWrite()
			if isClosed(src) {
				hangUpReading(dst) // or it would write to nobody
			}
			return
		case isGone(err), errors.Is(err, io.ErrUnexpectedEOF):
			w.report(err)
			dst.CloseWrite()
			return
		}
		w.report(err)
		hangUp(src)
		hangUp(dst)
		return
	}
}

func (w *way) report(err error) {
	if w.said.Swap(true) {
		return
	}
	w.cfg.Report(&Error{Channel: w.channel, From: w.from.Who, Offset: w.offset, Err: err})
}

// pass passes messages on, and returns when the kernel has them.
func (w *way) pass(ms []imsg.Message) error {
	if d := w.from.Conn.Dialect(); d != imsg.Auto && w.to.Conn.Dialect() == imsg.Auto {
		w.to.Conn.SetDialect(d)
	}
	defer w.clear()
	for _, m := range ms {
		w.offset += int64(imsg.HeaderSize + m.Len())
		o := imsg.Outgoing{Header: m.Header(), File: m.TakeFile(), Data: m.Bytes()}
		w.out = append(w.out, o)
		if o.File != nil {
			w.files = append(w.files, DescribeFile(o.File))
		} else if m.FileErr() != nil {
			w.files = append(w.files, capture.File{From: -1, To: -1, Lost: true})
		}
	}
	w.cfg.Record.add(w, ms)
	sent := 0
	for i, m := range ms {
		// Only Forward leaves a pid of 0 and the mark of a lost file alone. It
		// sends what is queued, too, and is quicker for a single message.
		if m.PID() != 0 && m.FileErr() == nil && (len(ms) > 1 || w.out[i].File != nil) {
			continue
		}
		err := w.compose(sent, i)
		if err == nil {
			err = w.forward(i, m)
		}
		if err != nil {
			return err
		}
		sent = i + 1
	}
	if err := w.compose(sent, len(ms)); err != nil {
		return err
	}
	return w.to.Conn.Flush(context.Background())
}

// compose queues messages of w.out.
func (w *way) compose(begin, end int) error {
	for begin < end {
		n, err := w.to.Conn.ComposeBatch(w.out[begin:end])
		for i := range n {
			w.out[begin+i].File = nil // it is the queue's
		}
		begin += n
		if errors.Is(err, imsg.ErrQueueFull) {
			err = w.to.Conn.Flush(context.Background())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forward sends m, which is that of w.out[i], and what is queued.
func (w *way) forward(i int, m imsg.Message) error {
	if f := w.out[i].File; f != nil {
		w.out[i].File = nil
		var err error
		if m, err = rejoin(m, f); err != nil {
			return err
		}
		defer m.Close()
	}
	return w.to.Conn.Forward(context.Background(), m)
}

// rejoin returns m, which is closed, with the file f.
func rejoin(m imsg.Message, f *os.File) (imsg.Message, error) {
	var q ibuf.Queue
	if err := imsg.Push(&q, m); err != nil {
		f.Close()
		return m, err
	}
	b := q.Pop()
	b.SetFile(f)
	if err := q.Push(b); err != nil {
		b.Close()
		return m, err
	}
	m, _, err := imsg.Pop(&q)
	return m, err
}

// clear closes the files that were not passed on.
func (w *way) clear() {
	for _, o := range w.out {
		if o.File != nil {
			o.File.Close()
		}
	}
	clear(w.out)
	w.out, w.files = w.out[:0], w.files[:0]
}

// hangUp ends both directions of c: the process at the other end reads what was
// sent and then the end, and cannot write any more.
func hangUp(c *imsg.Conn) { shutdown(c, syscall.SHUT_RDWR) }

// hangUpReading lets the process at the other end of c write no more.
func hangUpReading(c *imsg.Conn) { shutdown(c, syscall.SHUT_RD) }

func shutdown(c *imsg.Conn, how int) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), how) })
	}
}

// drain reads what has come, after hangUpReading: or the other end would get
// ECONNRESET instead of the end of the stream when c is closed.
func drain(c *imsg.Conn, ms []imsg.Message) {
	for {
		n, err := c.ReceiveBatch(context.Background(), ms)
		if err != nil {
			return
		}
		imsg.CloseAll(ms[:n])
	}
}

// isClosed reports whether the socket at the other end of c is closed, and not
// only for writing.
func isClosed(c *imsg.Conn) (closed bool) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}}
			n, err := unix.Poll(p, 0)
			closed = n > 0 && err == nil && p[0].Revents&unix.POLLHUP != 0
		})
	}
	return closed
}

// isGone reports whether err is how an end that has closed its socket, with or
// without having read everything, is noticed.
func isGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
