package hostile_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// A siege is one attack in an attacker's process.
type siege struct {
	fd    int
	null  int
	ready func()        // the attack is under way; may be called often
	over  chan struct{} // closed to end it
	bytes int
	files int
}

// sameUser says that the kernel's limit on a user's files in flight is reached:
// nobody of that user can send files until they are read.
type sameUser int

const (
	nobody sameUser = iota
	attackers
	victims
)

// sieges are the attacks. Those that are quiet have nothing to do once they are
// under way, so the victim must not have anything to do either.
var sieges = []struct {
	name     string
	dialect  imsg.Dialect
	quiet    bool
	answered bool     // by the victim, as long as it can
	limit    sameUser // who cannot send files meanwhile
	run      func(s *siege)
}{
	{"flooder", imsg.Current, false, false, nobody, (*siege).flood},
	{"flooder that never reads", imsg.Current, true, true, nobody, (*siege).mute},
	{"slow reader", imsg.Current, false, true, nobody, (*siege).slowReader},
	{"slow writer", imsg.Current, false, false, nobody, (*siege).slowWriter},
	{"a byte now and then", imsg.Current, true, false, nobody, (*siege).drip},
	{"half a header and 16 files", imsg.Legacy, true, false, nobody, (*siege).half},
	{"253 files at a time", imsg.Current, false, false, nobody, (*siege).files253},
	{"files in flight", imsg.Current, true, true, attackers, (*siege).inFlight},
	{"files never read", imsg.Current, true, false, victims, (*siege).unread},
	{"garbage", imsg.Auto, false, false, nobody, nil}, // on many channels, by the test itself
}

// attackerProcess attacks what its control channel, descriptor 3, tells it.
func attackerProcess(t *testing.T) {
	testutil.NoLeak(t)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = min(400, l.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	ctl, err := imsg.NewConn(3, &imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	null, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	ctx := context.Background()
	var s *siege
	var wg sync.WaitGroup
	stop := func() {
		if s != nil {
			close(s.over)
			wg.Wait()
			unix.Close(s.fd)
		}
	}
	for m := range orders(t, ctl) {
		switch m.Type() {
		case ctlAttack:
			s = &siege{fd: m.TakeFD(), null: null, over: make(chan struct{})}
			s.ready = sync.OnceFunc(func() { ctl.Send(ctx, imsg.Header{Type: ctlReady}, nil) })
			run := sieges[m.ID()].run
			if err := unix.SetNonblock(s.fd, true); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { run(s) })
		case ctlStop:
			stop()
			p, _ := json.Marshal([]int{s.bytes, s.files})
			s = nil
			ctl.Send(ctx, imsg.Header{Type: ctlStop}, nil, p)
		}
		m.Close()
	}
	stop()
}

// send sends p whole with n files, and reports whether that went: it is false
// when nothing goes any more, for a while or for ever.
func (s *siege) send(p []byte, n int) bool {
	var oob []byte
	if n > 0 {
		oob = unix.UnixRights(slices.Repeat([]int{s.null}, n)...)
	}
	for len(p) > 0 {
		k, err := unix.SendmsgN(s.fd, p, oob, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			s.bytes += k
			s.files += n
			p, oob, n = p[k:], nil, 0
		case unix.EINTR:
		case unix.EAGAIN:
			if !s.wait(unix.POLLOUT, 20) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// wait waits for an event, so many milliseconds at most.
func (s *siege) wait(events int16, timeout int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, timeout)
	return n > 0
}

// rest waits for the end.
func (s *siege) rest() {
	s.ready()
	<-s.over
}

// ended reports whether it is over.
func (s *siege) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// echo is a message that is to be sent back.
func echo(n int) []byte { return testutil.Frame(imsg.Current, sayEcho, n, false) }

func (s *siege) flood() {
	var p []byte
	for _, n := range []int{0, 16000, 10, 3000, 7, 200} {
		p = append(p, testutil.Frame(imsg.Current, sayThank, n, false)...)
	}
	for !s.ended() {
		s.send(p, 0)
		if s.bytes > 1<<20 {
			s.ready()
		}
	}
}

func (s *siege) mute() {
	for p := echo(9000); s.send(p, 0) && !s.ended(); {
	}
	s.rest()
}

func (s *siege) slowReader() {
	p, one := slices.Repeat(echo(500), 20), make([]byte, 1)
	left := p // what is not sent yet of p
	for !s.ended() {
		n, err := unix.SendmsgN(s.fd, left, nil, nil, unix.MSG_NOSIGNAL)
		if err == nil {
			s.bytes += n
			if left = left[n:]; len(left) == 0 {
				left = p
			}
			continue
		}
		s.ready()
		unix.Read(s.fd, one)
	}
}

func (s *siege) slowWriter() {
	p := testutil.Frame(imsg.Current, sayThank, 20, false)
	for !s.ended() {
		for i := range p {
			s.send(p[i:i+1], 0)
		}
		s.ready()
	}
}

func (s *siege) drip() {
	for p := testutil.Frame(imsg.Current, sayThank, 16000, false); len(p) > 0 && !s.ended(); p = p[1:] {
		s.send(p[:1], 0)
		s.ready()
		unix.Poll(nil, 1) // that is the attack
	}
	s.rest()
}

func (s *siege) half() {
	p := testutil.Frame(imsg.Legacy, sayThank, 3, false)
	for range maxHeld {
		s.send(p, 1)
	}
	s.send(p[:10], 0)
	s.rest()
}

func (s *siege) files253() {
	p := testutil.Frame(imsg.Current, sayThank, 3, false)
	for !s.ended() {
		s.send(p, 253)
		if s.files > 253*20 {
			s.ready()
		}
	}
}

// inFlight fills the victim's socket with files that it will never look at.
func (s *siege) inFlight() {
	for p := echo(9000); s.send(p, 0); {
	}
	unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20) // as far as the system lets us
	for p := echo(0); s.send(p, 253); {
	}
	s.rest()
}

func (s *siege) unread() {
	for p := testutil.Frame(imsg.Current, sayGive, 0, false); s.send(p, 0); {
	}
	s.rest()
}
