package unixmsg

import (
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	noLeak(t)
	a, b := pair(t, true)
	client, server := namedPair(t)
	p := make([]byte, 64)
	one := [][]byte{[]byte("hello")}
	three := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	sixteen := make([][]byte, 16)
	for i := range sixteen {
		sixteen[i] = []byte("x")
	}
	large, parts := make([]byte, 4<<10), make([]Part, MaxParts)
	write := func(bufs [][]byte) func() {
		return func() {
			_, err := Send(a, bufs, -1, 0)
			check.Must(t, err)
			_, err = Read(b, p, 0)
			check.Must(t, err)
		}
	}
	send := func(from, to int, bufs [][]byte, file int) func() {
		return func() {
			_, err := Send(from, bufs, file, 0)
			check.Must(t, err)
			_, got, lost, err := Recv(to, p, 0)
			check.Must(t, err)
			if lost || (got >= 0) != (file >= 0) {
				t.Fatalf("sent file %d, got %d, lost %v", file, got, lost)
			}
			if got >= 0 {
				unix.Close(got)
			}
		}
	}
	// Both directions: only the client's peer has a name.
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"Write 1, Read", write(one)},
		{"Write 3, Read", write(three)},
		{"Write 16, Read", write(sixteen)},
		{"Send 1, Recv", send(a, b, one, -1)},
		{"Send 3, Recv", send(a, b, three, -1)},
		{"Send 16, Recv", send(a, b, sixteen, -1)},
		{"Send a file, Recv", send(a, b, one, a)},
		{"Recv from a named peer", send(server, client, one, -1)},
		{"Recv a file from a named peer", send(server, client, three, a)},
		{"Read would block", func() {
			if _, err := Read(b, p, 0); err != syscall.EAGAIN {
				t.Fatal(err)
			}
		}},
		{"Recv would block", func() {
			if _, _, _, err := Recv(b, p, 0); err != syscall.EAGAIN {
				t.Fatal(err)
			}
		}},
		{"RecvMany", func() {
			for range 3 {
				_, err := Send(a, one, a, 0)
				check.Must(t, err)
			}
			n, err := RecvMany(b, large, parts, 0)
			check.Must(t, err)
			for _, part := range parts[:n] {
				unix.Close(int(part.File))
			}
		}},
		{"Poll", func() {
			check.Must(t, Poll(a, true, 1000))
		}},
		{"Recv into the stack", func() {
			var q [16]byte
			_, err := Send(a, one, -1, 0)
			check.Must(t, err)
			_, _, _, err = Recv(b, q[:], 0)
			check.Must(t, err)
		}},
	} {
		check.Equal(t, tt.name+": allocations", testing.AllocsPerRun(200, tt.do), 0)
	}

	full := [][]byte{make([]byte, 1<<16), make([]byte, 1<<16)}
	for {
		if _, err := Send(a, full, -1, 0); err != nil {
			break
		}
	}
	if n := testing.AllocsPerRun(200, func() {
		_, err := Send(a, full, -1, 0)
		_, err2 := Send(a, full, a, 0)
		if err != syscall.EAGAIN || err2 != syscall.EAGAIN {
			t.Fatal(err, err2)
		}
	}); n != 0 {
		t.Errorf("Write and Send would block: %v allocations", n)
	}
}
