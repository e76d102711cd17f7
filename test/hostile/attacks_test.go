package hostile_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// An attack is one attack in an attacker's process.
type attack struct {
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
	servers
)

// attacks are the attacks. Those that are quiet have nothing to do once they are
// under way, so the server must not have anything to do either.
var attacks = []struct {
	name     string
	dialect  imsg.Dialect
	quiet    bool
	answered bool     // by the server, as long as it can
	limit    sameUser // who cannot send files meanwhile
	run      func(a *attack)
}{
	{"flooder", imsg.Current, false, false, nobody, (*attack).flood},
	{"flooder that never reads", imsg.Current, true, true, nobody, (*attack).mute},
	{"slow reader", imsg.Current, false, true, nobody, (*attack).slowReader},
	{"slow writer", imsg.Current, false, false, nobody, (*attack).slowWriter},
	{"a byte now and then", imsg.Current, true, false, nobody, (*attack).drip},
	{"half a header and 16 files", imsg.Legacy, true, false, nobody, (*attack).half},
	{"253 files at a time", imsg.Current, false, false, nobody, (*attack).files253},
	{"files in flight", imsg.Current, true, true, attackers, (*attack).inFlight},
	{"files never read", imsg.Current, true, false, servers, (*attack).unread},
	{"garbage", imsg.Auto, false, false, nobody, nil}, // on many channels, by the test itself
}

// attackerProcess attacks what its control channel, descriptor 3, tells it.
func attackerProcess(t *testing.T) {
	testutil.NoLeak(t)
	var l syscall.Rlimit
	testutil.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	l.Cur = min(400, l.Cur)
	testutil.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
	ctl := testutil.NewConn(t, 3, &imsg.Config{AllowFDPass: true})
	null, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	testutil.Must(t, err)
	defer unix.Close(null)
	ctx := context.Background()
	var a *attack
	var wg sync.WaitGroup
	stop := func() {
		if a != nil {
			close(a.over)
			wg.Wait()
			unix.Close(a.fd)
		}
	}
	for m := range orders(t, ctl) {
		switch m.Type() {
		case ctlAttack:
			a = &attack{fd: m.TakeFD(), null: null, over: make(chan struct{})}
			a.ready = sync.OnceFunc(func() { ctl.Send(ctx, imsg.Header{Type: ctlReady}, nil) })
			run := attacks[m.ID()].run
			testutil.Must(t, unix.SetNonblock(a.fd, true))
			wg.Go(func() { run(a) })
		case ctlStop:
			stop()
			p, _ := json.Marshal([]int{a.bytes, a.files})
			a = nil
			ctl.Send(ctx, imsg.Header{Type: ctlStop}, nil, p)
		}
		m.Close()
	}
	stop()
}

// send sends p whole with n files, and waits for as long as that takes. It is
// false when the attack is over, or the server has closed the channel. With
// part of a message sent it never gives up before: the next one would be garbage.
func (a *attack) send(p []byte, n int) bool {
	for !a.ended() {
		if ok, whole := a.try(&p, &n); whole || !ok {
			return whole
		}
		a.writable(20)
	}
	return false
}

// fill sends copies of p, each with n files, until the server has read nothing
// for a while.
func (a *attack) fill(p []byte, n int) {
	for !a.ended() {
		p, n := p, n
		for whole := false; !whole; {
			var ok bool
			if ok, whole = a.try(&p, &n); !ok || !whole && !a.writable(50) {
				return
			}
		}
	}
}

// try sends what the socket takes of p, the files with the first byte. It is
// not ok when nothing will ever go again.
func (a *attack) try(p *[]byte, n *int) (ok, whole bool) {
	for len(*p) > 0 {
		var oob []byte
		if *n > 0 {
			oob = unix.UnixRights(slices.Repeat([]int{a.null}, *n)...)
		}
		k, err := unix.SendmsgN(a.fd, *p, oob, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			a.bytes += k
			a.files += *n
			*p, *n = (*p)[k:], 0
		case unix.EINTR:
		default:
			return err == unix.EAGAIN, false
		}
	}
	return true, true
}

// writable waits for that, so many milliseconds at most.
func (a *attack) writable(timeout int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLOUT}}, timeout)
	return n > 0
}

// rest waits for the end.
func (a *attack) rest() {
	a.ready()
	<-a.over
}

// ended reports whether it is over.
func (a *attack) ended() bool {
	select {
	case <-a.over:
		return true
	default:
		return false
	}
}

// echo is a message that is to be sent back.
func echo(n int) []byte { return testutil.Frame(imsg.Current, sayEcho, n, false) }

func (a *attack) flood() {
	var p []byte
	for _, n := range []int{0, 16000, 10, 3000, 7, 200} {
		p = append(p, testutil.Frame(imsg.Current, sayThank, n, false)...)
	}
	for !a.ended() {
		a.send(p, 0)
		if a.bytes > 1<<20 {
			a.ready()
		}
	}
}

func (a *attack) mute() {
	a.fill(echo(9000), 0)
	a.rest()
}

func (a *attack) slowReader() {
	p, one := slices.Repeat(echo(500), 20), make([]byte, 1)
	left := p // what is not sent yet of p
	for !a.ended() {
		n, err := unix.SendmsgN(a.fd, left, nil, nil, unix.MSG_NOSIGNAL)
		if err == nil {
			a.bytes += n
			if left = left[n:]; len(left) == 0 {
				left = p
			}
			continue
		}
		a.ready()
		unix.Read(a.fd, one)
	}
}

func (a *attack) slowWriter() {
	p := testutil.Frame(imsg.Current, sayThank, 20, false)
	for !a.ended() {
		for i := range p {
			a.send(p[i:i+1], 0)
		}
		a.ready()
	}
}

func (a *attack) drip() {
	for p := testutil.Frame(imsg.Current, sayThank, 16000, false); len(p) > 0 && !a.ended(); p = p[1:] {
		a.send(p[:1], 0)
		a.ready()
		unix.Poll(nil, 1) // that is the attack
	}
	a.rest()
}

func (a *attack) half() {
	p := testutil.Frame(imsg.Legacy, sayThank, 3, false)
	for range maxHeld {
		a.send(p, 1)
	}
	a.send(p[:10], 0)
	a.rest()
}

func (a *attack) files253() {
	p := testutil.Frame(imsg.Current, sayThank, 3, false)
	for !a.ended() {
		a.send(p, 253)
		if a.files > 253*20 {
			a.ready()
		}
	}
}

// inFlight fills the server's socket with files that it will never look at.
func (a *attack) inFlight() {
	a.fill(echo(9000), 0)
	unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20) // as far as the system lets us
	a.fill(echo(0), 253)
	a.rest()
}

func (a *attack) unread() {
	a.fill(testutil.Frame(imsg.Current, sayGive, 0, false), 0)
	a.rest()
}
