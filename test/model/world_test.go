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

// A world is one program that runs: both ends of a real socket pair with
// what the model says about them.
type world struct {
	ends  [2]*endpoint
	files testutil.Files
	seq   uint32 // of messages and other things with contents of their own

	space, scratch []byte // to read into, and to write from
	n              figures
}

// figures count what was done.
type figures struct {
	programs, steps int
	messages        int // taken
	sent, bytes     uint64
	created         int // files
	delivered       int // taken, or closed with their message
	returned        int // refused, or only borrowed
	discarded       int // all others: by Clear, by Close, by whoever did not want them
}

// A channel is what Buf and Conn have in common.
type channel interface {
	Create(imsg.Header, int) (*imsg.Builder, error)
	QueueLen() int
	Stats() imsg.Stats
	SetMaxSize(int) error
	Dialect() imsg.Dialect
}

// A endpoint is one end.
type endpoint struct {
	setup
	name string
	fd   int
	buf  *imsg.Buf
	conn *imsg.Conn
	ch   channel // one of them; nil for a raw socket
	peer *endpoint

	tx  refSender
	out refWire
	rx  receiver

	msgs     []held
	stale    []imsg.Message // closed ones
	queue    ibuf.Queue
	queued   []*wireref.Message // in queue; nil for what is no message
	builders []*builder
	events   []event // from Trace
	want     []event
	raw      map[*wireref.File]*os.File // not sent yet

	dead         bool // the descriptor is closed
	hung         bool // shut down for writing
	rpast, wpast bool // deadlines
}

// A event is an imsg.Event that can be compared.
type event struct {
	dir        imsg.Direction
	h          imsg.Header
	payload    string
	file, lost bool
}

// newModelWorld makes the ends of a program.
func newModelWorld(p *program) *world {
	w := &world{}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		fail("socketpair: %v", err)
	}
	for i := range w.ends {
		w.ends[i] = &endpoint{setup: p.ends[i], name: string(rune('a' + i)), fd: fds[i]}
	}
	for i, e := range w.ends {
		e.peer = w.ends[1-i]
		e.rx = newReceiver(e)
		e.open()
	}
	return w
}

func (e *endpoint) open() {
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
			e.events = append(e.events, event{ev.Direction, ev.Header, string(ev.Payload.Bytes()), ev.HasFile, ev.FileLost})
		}
	}
	switch e.kind {
	case rawEnd:
		e.raw = make(map[*wireref.File]*os.File)
		return
	case connEnd:
		c, err := imsg.NewConn(e.fd, cfg)
		expect("NewConn", err)
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
	setDefault(&e.queueBytes, 16<<20)
	setDefault(&e.queueFiles, 256)
	setDefault(&e.pending, 16<<20)
	e.rx.Hold = e.queueFiles
}

func setDefault(to *int, n int) {
	if *to == 0 {
		*to = n
	}
}

// setMax is SetMaxSize.
func (e *endpoint) setMax(n int) {
	most := 1<<31 - 1 - imsg.HeaderSize
	if e.dialect != imsg.Current {
		most = 1<<16 - 1 - imsg.HeaderSize
	}
	if e.dialect == imsg.Auto && n > most {
		return // what is ambiguous there depends on how reads are cut: see the root's TestAutoAbove64K
	}
	err := e.ch.SetMaxSize(n)
	if n < 0 || n > most {
		expect("SetMaxSize", err, imsg.ErrTooLarge)
		return
	}
	expect("SetMaxSize", err)
	e.rx.Limit = n + imsg.HeaderSize
}

// broken reports whether nothing can be written any more.
func (e *endpoint) broken() bool { return e.hung || e.peer.dead }

// takes reports whether the kernel certainly takes what is queued and n bytes
// in so many messages more at once, so that no call waits.
func (e *endpoint) takes(n, files int) bool {
	if e.broken() || e.tx.err != nil {
		return true
	}
	n, files = n+e.tx.size, files+e.tx.files
	return n == 0 || len(e.out.p) == 0 && !e.dead && (e.small && n <= 1000 && files <= 1 || !e.small && n <= 32<<10 && files <= 4)
}

// wrote is how many bytes the kernel got from e since the model last knew.
func (e *endpoint) wrote() int {
	if e.peer.dead {
		return 0
	}
	n := inFlight(e.peer.fd) - len(e.out.p)
	if n < 0 || n > 0 && e.dead {
		fail("%d bytes more in flight", n)
	}
	return n
}

// took is how many bytes e took from the kernel since the model last knew.
func (e *endpoint) took() int {
	if e.dead {
		return 0
	}
	n := len(e.rx.wire.p) - inFlight(e.fd)
	if n < 0 {
		fail("%d bytes more in flight", -n)
	}
	return n
}

// check compares everything that can be seen without doing anything.
func (w *world) check() {
	for _, e := range w.ends {
		if e.ch == nil {
			continue
		}
		same("QueueLen", e.ch.QueueLen(), len(e.tx.queue))
		same("Stats", e.ch.Stats(), imsg.Stats{Sent: e.tx.n, Received: e.rx.n})
		same("Dialect", e.ch.Dialect(), imsg.Dialect(e.rx.Dialect))
		if len(e.msgs) > 0 {
			e.msgs[w.n.steps%len(e.msgs)].check()
		}
		same("Trace calls", len(e.events), len(e.want))
		for i, ev := range e.events {
			same("Trace", ev, e.want[i])
		}
		e.events, e.want = e.events[:0], e.want[:0]
	}
	w.checkFiles(false)
}

// event notes what Trace should have been told.
func (e *endpoint) event(dir imsg.Direction, h imsg.Header, payload []byte, file, lost bool) {
	if e.trace {
		e.want = append(e.want, event{dir, h, string(payload), file, lost})
	}
}
