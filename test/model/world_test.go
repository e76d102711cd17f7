//go:build linux

package model_test

import (
	"os"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// A modelWorld is one program that runs: both ends of a real socket pair with
// what the model says about them.
type modelWorld struct {
	ends  [2]*modelEnd
	files testutil.Files
	seq   uint32 // of messages and other things with contents of their own

	space, scratch []byte // to read into, and to write from
	n              modelFigures
}

// modelFigures count what was done.
type modelFigures struct {
	programs, steps int
	messages        int // taken
	sent, bytes     uint64
	created         int // files
	delivered       int // taken, or closed with their message
	returned        int // refused, or only borrowed
	discarded       int // all others: by Clear, by Close, by whoever did not want them
}

// A modelChannel is what Buf and Conn have in common.
type modelChannel interface {
	Create(imsg.Header, int) (*imsg.Builder, error)
	QueueLen() int
	Stats() imsg.Stats
	SetMaxSize(int) error
	Dialect() imsg.Dialect
}

// A modelEnd is one end.
type modelEnd struct {
	modelSetup
	name string
	fd   int
	buf  *imsg.Buf
	conn *imsg.Conn
	ch   modelChannel // one of them; nil for a raw socket
	peer *modelEnd

	tx  refSender
	out refWire
	rx  receiver

	msgs     []modelMsg
	stale    []imsg.Message // closed ones
	queue    ibuf.Queue
	queued   []*wireref.Message // in queue; nil for what is no message
	builders []*modelBuilder
	events   []modelEvent // from Trace
	want     []modelEvent
	raw      map[*wireref.File]*os.File // not sent yet

	dead         bool // the descriptor is closed
	hung         bool // shut down for writing
	rpast, wpast bool // deadlines
}

// A modelEvent is an imsg.Event that can be compared.
type modelEvent struct {
	dir        imsg.Direction
	h          imsg.Header
	payload    string
	file, lost bool
}

// newModelWorld makes the ends of a program.
func newModelWorld(p *modelProgram) *modelWorld {
	w := &modelWorld{}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		modelFail("socketpair: %v", err)
	}
	for i := range w.ends {
		w.ends[i] = &modelEnd{modelSetup: p.ends[i], name: string(rune('a' + i)), fd: fds[i]}
	}
	for i, e := range w.ends {
		e.peer = w.ends[1-i]
		e.rx = newReceiver(e)
		e.open()
	}
	return w
}

func (e *modelEnd) open() {
	if e.small {
		unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	}
	cfg := &imsg.Config{
		Dialect: e.dialect, AllowFDPass: e.fdpass, MaxQueueBytes: e.queueBytes, MaxQueueMessages: e.queueLen,
		MaxQueueFiles: e.queueFiles, MaxPendingBytes: e.pending,
	}
	if e.busy {
		cfg.BusyPoll = time.Microsecond
	}
	if e.trace {
		cfg.Trace = func(ev imsg.Event) {
			e.events = append(e.events, modelEvent{ev.Direction, ev.Header, string(ev.Payload.Bytes()), ev.HasFile, ev.FileLost})
		}
	}
	switch e.kind {
	case modelRaw:
		e.raw = make(map[*wireref.File]*os.File)
		return
	case modelConn:
		c, err := imsg.NewConn(e.fd, cfg)
		modelExpect("NewConn", err)
		e.conn, e.ch = c, c
	default:
		if e.blocking {
			unix.SetNonblock(e.fd, false)
		}
		e.buf = imsg.NewBuf(e.fd, cfg)
		e.ch = e.buf
	}
	if e.max > 0 {
		e.setMax(e.max)
	}
	modelDefault(&e.queueBytes, 16<<20)
	modelDefault(&e.queueFiles, 256)
	modelDefault(&e.pending, 16<<20)
	e.rx.Hold = e.queueFiles
}

func modelDefault(to *int, n int) {
	if *to == 0 {
		*to = n
	}
}

// setMax is SetMaxSize.
func (e *modelEnd) setMax(n int) {
	most := 1<<31 - 1 - imsg.HeaderSize
	if e.dialect != imsg.Current {
		most = 1<<16 - 1 - imsg.HeaderSize
	}
	if e.dialect == imsg.Auto && n > most {
		return // what is ambiguous there depends on how reads are cut: see the root's TestAutoAbove64K
	}
	err := e.ch.SetMaxSize(n)
	if n < 0 || n > most {
		modelExpect("SetMaxSize", err, imsg.ErrTooLarge)
		return
	}
	modelExpect("SetMaxSize", err)
	e.rx.Limit = n + imsg.HeaderSize
}

// broken reports whether nothing can be written any more.
func (e *modelEnd) broken() bool { return e.hung || e.peer.dead }

// takes reports whether the kernel certainly takes what is queued and n bytes
// in so many messages more at once, so that no call waits.
func (e *modelEnd) takes(n, files int) bool {
	if e.broken() || e.tx.err != nil {
		return true
	}
	n, files = n+e.tx.size, files+e.tx.files
	return n == 0 || len(e.out.p) == 0 && !e.dead && (e.small && n <= 1000 && files <= 1 || !e.small && n <= 32<<10 && files <= 4)
}

// wrote is how many bytes the kernel got from e since the model last knew.
func (e *modelEnd) wrote() int {
	if e.peer.dead {
		return 0
	}
	n := modelInFlight(e.peer.fd) - len(e.out.p)
	if n < 0 || n > 0 && e.dead {
		modelFail("%d bytes more in flight", n)
	}
	return n
}

// took is how many bytes e took from the kernel since the model last knew.
func (e *modelEnd) took() int {
	if e.dead {
		return 0
	}
	n := len(e.rx.wire.p) - modelInFlight(e.fd)
	if n < 0 {
		modelFail("%d bytes more in flight", -n)
	}
	return n
}

// check compares everything that can be seen without doing anything.
func (w *modelWorld) check() {
	for _, e := range w.ends {
		if e.ch == nil {
			continue
		}
		modelSame("QueueLen", e.ch.QueueLen(), len(e.tx.queue))
		modelSame("Stats", e.ch.Stats(), imsg.Stats{Sent: e.tx.n, Received: e.rx.n})
		modelSame("Dialect", e.ch.Dialect(), imsg.Dialect(e.rx.Dialect))
		if len(e.msgs) > 0 {
			e.msgs[w.n.steps%len(e.msgs)].check()
		}
		modelSame("Trace calls", len(e.events), len(e.want))
		for i, ev := range e.events {
			modelSame("Trace", ev, e.want[i])
		}
		e.events, e.want = e.events[:0], e.want[:0]
	}
	w.checkFiles(false)
}

// event notes what Trace should have been told.
func (e *modelEnd) event(dir imsg.Direction, h imsg.Header, payload []byte, file, lost bool) {
	if e.trace {
		e.want = append(e.want, modelEvent{dir, h, string(payload), file, lost})
	}
}
