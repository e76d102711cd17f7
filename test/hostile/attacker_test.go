package hostile_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// An attacker is a bare socket that sends what no channel would send. It notes
// what the kernel took, and keeps one end of whatever it gives away, to see
// that nobody has the other one in the end.
type attacker struct {
	rnd    *rand.Rand
	fd     int // -1: closed
	target int // a duplicate of the target's end, which it may pass to it, or -1
	d      imsg.Dialect
	limit  int
	most   int    // descriptors in one control message
	step   func() // after everything that was sent

	typ      uint32
	stream   []byte
	ships    []shipment
	oob      int // offset of the out-of-band byte that was not read yet, or -1
	oobs     int
	blurred  bool // nobody can tell which file belongs where
	once     [3]bool
	sentOwn  bool           // its own end is under way: closing it need not be noticed
	files    testutil.Files // these must see that the other end is gone
	open     int            // descriptors that belong to the attacker
	passed   int            // descriptors that the kernel took
	buf      []byte
	answered int // bytes that it read
}

// A parcel is the descriptors of one control message.
type parcel struct {
	fds   []int
	file  uint64 // identity of the first
	close bool   // fds[0], after the call
	cred  bool   // claim to be somebody, too
}

// opened counts descriptors that were made.
func (a *attacker) opened(n int) { a.open += n }

func (a *attacker) closeFD(fd int) {
	unix.Close(fd)
	a.open--
}

// pipe returns the write end of a new pipe whose read end is watched.
func (a *attacker) pipe() (int, error) {
	_, w, err := a.files.Create()
	if err == nil {
		a.opened(2)
	}
	return w, err
}

// pack makes a parcel of n descriptors, the first of them something that has
// an identity.
func (a *attacker) pack(n int) (*parcel, error) {
	fd, mine, err := a.thing()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	p := &parcel{file: fileIdentity(&st), close: mine, cred: a.rnd.IntN(16) == 0}
	for range n {
		p.fds = append(p.fds, fd)
	}
	return p, nil
}

// thing returns something to pass, and whether it is to be closed afterwards.
func (a *attacker) thing() (fd int, mine bool, err error) {
	k := a.rnd.IntN(16)
	if k < len(a.once) { // those have one identity only
		if a.once[k] {
			k = len(a.once)
		} else {
			a.once[k] = true
		}
	}
	switch {
	case k == 0:
		fd, err = unix.Open(".", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	case k == 1:
		a.sentOwn = true
		return a.fd, false, nil
	case k == 2 && a.target >= 0:
		return a.target, false, nil
	case k == 3: // a socket with a pipe, and rarely itself, under way to it
		var s [2]int
		if s, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
			return -1, false, err
		}
		a.opened(1)
		a.files.Watch(s[0])
		var w int
		if w, err = a.pipe(); err != nil {
			return -1, false, err
		}
		inside := []int{w}
		if a.rnd.IntN(16) == 0 {
			inside = []int{w, s[1]}
		}
		err = unix.Sendmsg(s[0], []byte{1}, unix.UnixRights(inside...), nil, 0)
		a.closeFD(w)
		fd = s[1]
	default:
		fd, err = a.pipe()
		return fd, true, err
	}
	a.opened(1)
	return fd, true, err
}

// send sends p with a parcel, which may be nil.
func (a *attacker) send(p []byte, b *parcel, flags int) {
	if a.fd < 0 {
		return
	}
	var oob []byte
	n := 0
	if b != nil {
		oob, n = unix.UnixRights(b.fds...), len(b.fds)
		if b.cred {
			oob = append(claimCredentials(unix.UnixRights(os.Getpid(), os.Getuid(), os.Getgid())), oob...)
		}
	}
	k, err := unix.SendmsgN(a.fd, p, oob, nil, flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err != nil {
		k, n = 0, 0
	}
	a.passed += n
	if k > 0 {
		s := shipment{beg: len(a.stream), end: len(a.stream) + k}
		if n > 0 {
			s.file = b.file
		}
		a.stream, a.ships = append(a.stream, p[:k]...), append(a.ships, s)
		if flags&unix.MSG_OOB != 0 && k == len(p) { // or else that byte did not go
			a.oob = s.end - 1 // one that was there is an ordinary byte now
			a.oobs++
			a.blurred = a.blurred || n > 0
		}
	}
	if b != nil && b.close {
		a.closeFD(b.fds[0])
	}
	a.step()
}

// drained says that the target has read everything: an out-of-band byte is lost
// on it.
func (a *attacker) drained() {
	if a.oob < 0 {
		return
	}
	a.stream = append(a.stream[:a.oob], a.stream[a.oob+1:]...)
	for i := range a.ships {
		s := &a.ships[i]
		if s.beg > a.oob {
			s.beg--
		}
		if s.end > a.oob {
			s.end--
		}
	}
	a.oob = -1
}

// read takes some of what the target answered.
func (a *attacker) read(n int) {
	if a.fd < 0 {
		return
	}
	oob := make([]byte, unix.CmsgSpace(8*4))
	k, on, _, _, err := unix.Recvmsg(a.fd, a.buf[:n], oob, unix.MSG_DONTWAIT)
	if err != nil {
		return
	}
	a.answered += k
	msgs, _ := unix.ParseSocketControlMessage(oob[:on])
	for _, m := range msgs {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// end closes the attacker's socket. If that may not be noticed, because its
// file is under way and thus open, it says so first.
func (a *attacker) end(loud bool) {
	if a.fd < 0 {
		return
	}
	if a.sentOwn && loud {
		unix.Shutdown(a.fd, unix.SHUT_WR)
	}
	a.closeFD(a.fd)
	a.fd = -1
}

// settle waits until nobody holds the other end of what is watched, and closes
// it. Sockets that are under way to themselves are found by the kernel only
// when some other socket is closed.
func (a *attacker) settle() error {
	if a.target >= 0 {
		a.closeFD(a.target)
	}
	end := time.Now().Add(testutil.Bound)
	for timeout := 0; len(a.files.Live) > 0; timeout = 50 {
		if err := a.files.Check(timeout, func(_ *testutil.File, closed bool) {
			if closed {
				a.open--
			}
		}); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d files of %d are still open somewhere", len(a.files.Live), a.files.Made)
		}
		if len(a.files.Live) > 0 {
			if s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err == nil {
				unix.Close(s[0])
				unix.Close(s[1])
			}
		}
	}
	return nil
}
