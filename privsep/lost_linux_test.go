package privsep

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.org/imsg"
)

var lostDaemon = register(Daemon{Name: "lost", Roles: []Role{
	{Name: "full", Run: witness, Peers: []string{"mortal"}},
	{Name: "mortal", Run: witness, OnExit: Restart, Backoff: time.Millisecond},
}})

func init() {
	// nofile sets how many descriptors this process may have, and returns how many
	// it could have before. With 0 its table is full, whatever it closes.
	acts["nofile"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		n, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return nil, err
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return nil, err
		}
		old := limit.Cur
		limit.Cur = n
		return old, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

// TestLostChannel: a child whose descriptor table is full when a peer is started
// again goes on, and has a channel to that peer when there is room again.
func TestLostChannel(t *testing.T) {
	log := make(lines, 1000)
	r := up(t, lostDaemon, patient, func(d *Daemon) { d.Logger = log.logger() })
	pid := r.status("full", 0).PID
	for range 2 {
		most := ask[uint64](t, r.Peer("full"), "nofile", "0")
		old := r.Peer("mortal")
		tell(t, old, "kill")
		r.next("mortal", 0, old)
		for range 2 { // also that in its place
			log.wait(t, "a channel was lost")
		}
		if got := ask[peerName](t, r.Peer("full"), "hello"); got.Role != "full" {
			t.Errorf("it says it is %v", got)
		}
		ask[uint64](t, r.Peer("full"), "nofile", strconv.FormatUint(most, 10))
		if got := ask[peerName](t, r.Peer("full"), "next", "mortal", "0", "hello"); got.Role != "mortal" {
			t.Errorf("mortal says it is %v", got)
		}
		if got := ask[peerName](t, r.Peer("mortal"), "next", "full", "0", "hello"); got.Role != "full" {
			t.Errorf("to mortal it says it is %v", got)
		}
	}
	if now := r.status("full", 0).PID; now != pid {
		t.Errorf("process %d instead of %d", now, pid)
	}
}

// TestUnsentFile: a child to which the kernel does not pass a file does not
// start, and the error says so at once. Linux passes no io_uring since 6.7.
func TestUnsentFile(t *testing.T) {
	ring := func(t *testing.T) *os.File {
		var params [120]byte
		fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		if errno != 0 {
			t.Skip("no io_uring: ", errno)
		}
		return os.NewFile(fd, "io_uring")
	}
	f := ring(t)
	a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	err = a.Send(t.Context(), imsg.Header{Type: 1}, f)
	a.Close()
	b.Close()
	if err == nil {
		t.Skip("this kernel passes an io_uring")
	}
	f.Close()
	err = fails(t, pairDaemon, func(d *Daemon) {
		d.StartTimeout = time.Hour
		d.Prepare = func(_ context.Context, p *Proc) error {
			p.AddFile("b", "ring", ring(t))
			return nil
		}
	})
	var child *ChildError
	if !errors.As(err, &child) || child.Role != "b" || child.Step != "peers" || !errors.Is(err, imsg.ErrFileNotSent) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("error %v", err)
	}
}
