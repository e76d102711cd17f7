package tmux

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// A control client that has sent LONGFLAGS but not DONE ends tmux before 3.7
// when it goes away. So the two must go together, wherever a cancel cuts the
// introduction: here the peer reads n bytes with small socket buffers, so that
// every write of the client waits, then the client gives up.
func TestIdentifyCutEverywhere(t *testing.T) {
	var env []string
	for i := range 300 {
		env = append(env, fmt.Sprintf("NAME%d=%s", i, strings.Repeat("v", i%97)))
	}
	command, err := newCommand([]string{"attach-session", "-t", strings.Repeat("x", 9000)})
	if err != nil {
		t.Fatal(err)
	}
	whole := len(cutIdentity(t, env, command, 1<<20))
	if whole < 30000 {
		t.Fatalf("the introduction has %d bytes", whole)
	}
	states := map[bool]int{}
	for n := 0; n < whole; n++ {
		if n > 4000 && n < whole-14000 {
			n += 60 // nothing but the environment
		} else if n > 200 {
			n += 6
		}
		types := checkCut(t, env, command, n)
		states[types[msgIdentifyDone]]++
	}
	// The kernel takes a long write in parts of some 2 kB here. Wherever these
	// end, it is not between the two.
	for pad := 0; pad < 2240; pad += 8 {
		env := []string{"A=" + strings.Repeat("a", 8000), "B=" + strings.Repeat("b", pad)}
		for n := 5000; n < 8000; n += 750 {
			checkCut(t, env, command, n)
		}
	}
	if states[false] == 0 || states[true] == 0 {
		t.Errorf("cuts before and behind DONE: %v", states)
	}
}

// checkCut checks what a cancel after n bytes leaves.
func checkCut(t *testing.T, env []string, command []byte, n int) map[uint32]bool {
	t.Helper()
	types := typesOf(t, cutIdentity(t, env, command, n))
	if types[msgIdentifyLongFlags] != types[msgIdentifyDone] {
		t.Fatalf("cut after %d bytes: LONGFLAGS %v, DONE %v", n, types[msgIdentifyLongFlags], types[msgIdentifyDone])
	}
	if types[msgIdentifyDone] && !(types[msgIdentifyTTYName] && types[msgIdentifyStdin] && types[msgIdentifyStdout]) {
		t.Fatalf("cut after %d bytes: DONE too early", n)
	}
	return types
}

// cutIdentity sends an introduction to a peer that reads n bytes of it, cancels
// it, and returns everything that the peer got.
func cutIdentity(t *testing.T, env []string, command []byte, n int) []byte {
	t.Helper()
	ours, theirs := imsgtest.Sockets(t)
	fd := ours.Take()
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1)
	conn, err := imsg.NewConn(fd, &imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(theirs.Take()), "peer")
	peer, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()

	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	sent := make(chan error)
	go func() {
		id := identity{dir: "/", env: env, in: r, out: w, command: command}
		err := id.send(ctx, conn)
		conn.Close()
		sent <- err
	}()
	got := make([]byte, n)
	n, _ = io.ReadFull(peer, got)
	cancel()
	<-sent
	rest, err := io.ReadAll(peer)
	if err != nil {
		t.Fatal(err)
	}
	return append(got[:n], rest...)
}

// typesOf tells which messages are whole in p.
func typesOf(t *testing.T, p []byte) map[uint32]bool {
	t.Helper()
	types := make(map[uint32]bool)
	for len(p) >= imsg.HeaderSize {
		h, n, _ := imsg.Current.Decode(p, binary.NativeEndian)
		if n < imsg.HeaderSize {
			t.Fatalf("length %d", n)
		}
		if n > len(p) {
			break
		}
		types[h.Type], p = true, p[n:]
	}
	return types
}

// What no server may get: tmux before 3.7 ends at a command without a NUL at
// its end, and starts a session for one without arguments.
func TestNewCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"a\x00b"}, {strings.Repeat("x", maxCommand)}} {
		if _, err := newCommand(args); err == nil {
			t.Errorf("newCommand of %d arguments succeeds", len(args))
		}
	}
	for _, args := range [][]string{{""}, {"ls"}, {"a", "", "b"}, {strings.Repeat("x", maxCommand-1)}} {
		p, err := newCommand(args)
		if err != nil || len(p) > maxPayload || p[len(p)-1] != 0 || number(p, 0) != int32(len(args)) {
			t.Errorf("newCommand(%d arguments): %d bytes, %v", len(args), len(p), err)
		}
		if got := command(p); fmt.Sprint(got) != fmt.Sprint(args) {
			t.Errorf("%q, want %q", got, args)
		}
	}
}
