package hostile_test

import (
	"context"
	"encoding/json"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// A server is a process that serves channels, one of which may be attacked. It
// comes in two kinds: an event loop of Bufs, and a goroutine for each Conn. A
// control channel, its descriptor 3, tells it what to do.

// What is said on a control channel.
const (
	ctlAdd    = iota + 1 // serve the attached channel, whose dialect is the payload
	ctlGone              // the channel has ended
	ctlReport            // send a report, a light one if there is a payload
	ctlAttack            // attack the attached channel
	ctlReady             // the attack is under way
	ctlStop              // end the attack
)

// What is said on the others.
const (
	sayEcho  = iota + 1 // send it back, with the file
	sayThank            // do nothing
	sayGive             // send a file back
)

// A report is what a server knows about itself.
type report struct {
	FDs      int
	Heap     int // bytes in use after a few collections
	RSS      int // most ever, in bytes
	CPU      int // microseconds
	Rounds   int // of the event loop
	Channels map[uint32]traffic
}

type traffic struct{ Received, Sent imsg.Counters }

// newReport fills in what is the same for both kinds. A light one has only the
// time used, and is quick.
func newReport(light bool) report {
	r := report{Channels: map[uint32]traffic{}}
	if !light {
		r.FDs = len(imsgtest.OpenFDs())
		r.Heap = testutil.Heap()
	}
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	r.RSS, r.CPU = int(u.Maxrss)<<10, int(u.Utime.Nano()+u.Stime.Nano())/1000
	return r
}

func (r report) encode() []byte {
	p, _ := json.Marshal(r)
	return p
}

// serverConfig is what a careful program says. Its descriptor table is small.
func serverConfig(d imsg.Dialect) *imsg.Config {
	return &imsg.Config{Dialect: d, AllowFDPass: true, MaxQueueBytes: 256 << 10, MaxQueueFiles: maxHeld, MaxPendingBytes: 256 << 10}
}

// A connServer is a server with a goroutine for each channel.
type connServer struct {
	t     *testing.T
	ctl   *imsg.Conn
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[uint32]*imsg.Conn
}

// serveConns serves until its control channel ends.
func serveConns(t *testing.T) {
	testutil.NoLeak(t)
	testutil.SetMaxFiles(t, 256) // one receive from a hostile peer can bring 208 for a moment
	ctl, err := imsg.NewConn(3, serverConfig(imsg.Current))
	testutil.Must(t, err)
	v := &connServer{t: t, ctl: ctl, conns: map[uint32]*imsg.Conn{}}
	ctx := context.Background()
	for m := range orders(t, ctl) {
		switch m.Type() {
		case ctlAdd:
			c, err := imsg.NewConn(m.TakeFD(), serverConfig(imsg.Dialect(m.Bytes()[0])))
			testutil.Must(t, err)
			v.mu.Lock()
			v.conns[m.ID()] = c
			v.mu.Unlock()
			id := m.ID()
			v.wg.Go(func() { v.serve(id, c) })
			ctl.Send(ctx, imsg.Header{Type: ctlAdd}, nil)
		case ctlReport:
			r := newReport(m.Len() > 0)
			v.mu.Lock()
			for id, c := range v.conns {
				s := c.Stats()
				r.Channels[id] = traffic{s.Received, s.Sent}
			}
			v.mu.Unlock()
			ctl.Send(ctx, imsg.Header{Type: ctlReport}, nil, r.encode())
		}
		m.Close()
	}
	v.mu.Lock()
	for _, c := range v.conns {
		c.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
	ctl.Close()
}

func (v *connServer) serve(id uint32, c *imsg.Conn) {
	ctx := context.Background()
	null := testutil.DevNull(v.t)
	for m, err := range c.All(ctx) {
		if err != nil {
			break
		}
		switch m.Type() {
		case sayEcho:
			f := m.TakeFile()
			err = c.Send(ctx, imsg.Header{Type: sayEcho}, f, m.Bytes())
			if f != nil {
				f.Close()
			}
		case sayGive:
			err = c.Send(ctx, imsg.Header{Type: sayGive}, null)
		}
		if m.Close(); err != nil {
			break
		}
	}
	c.Close()
	null.Close()
	v.mu.Lock()
	delete(v.conns, id)
	v.mu.Unlock()
	// Nothing is open any more: who hears this counts.
	v.ctl.Send(ctx, imsg.Header{Type: ctlGone, ID: id}, nil)
}
