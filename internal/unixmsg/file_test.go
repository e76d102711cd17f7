//go:build unix && !aix

package unixmsg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// TestPassFile passes the write end of a pipe and looks at what arrives.
func TestPassFile(t *testing.T) {
	for _, nonblock := range []bool{false, true} { // of the file
		for _, channel := range []bool{false, true} { // of the socket
			t.Run(fmt.Sprintf("file %v socket %v", nonblock, channel), func(t *testing.T) {
				noLeak(t)
				a, b := pair(t, channel)
				r, w := pipe(t)
				closeLater(t, w)
				check.Must(t, unix.SetNonblock(w, nonblock))
				if n, err := Send(a, [][]byte{nil, []byte("take "), []byte("this")}, w, 0); err != nil || n == 0 {
					t.Fatalf("send: %d, %v", n, err)
				}
				p := make([]byte, 32)
				n, file, lost, err := Recv(b, p, 0)
				if err != nil || lost || file < 0 || file == w || n == 0 || string(p[:n]) != "take this"[:n] {
					t.Fatalf("recv %q, file %d, lost %v, %v", p[:n], file, lost, err)
				}
				defer mustClose(t, file)
				if !cloexec(t, file) {
					t.Error("the file survives exec")
				}
				for _, fd := range []int{w, file} {
					check.Equal(t, fmt.Sprintf("descriptor %d: non-blocking", fd), nonblocking(t, fd), nonblock)
				}
				_, err = unix.Write(file, []byte("!"))
				check.Must(t, err)
				if n, err := unix.Read(r, p); err != nil || string(p[:n]) != "!" {
					t.Errorf("through the file: %q, %v", p[:n], err)
				}
			})
		}
	}
}

// TestFileIsHeldInFlight closes the sender's descriptor before the receiver
// asks for it.
func TestFileIsHeldInFlight(t *testing.T) {
	noLeak(t)
	a, b := pair(t, true)
	r, w := pipe(t)
	mustSend(t, a, "x", w)
	mustClose(t, w)
	if allClosed(t, r) {
		t.Fatal("the file in flight is closed")
	}
	mustClose(t, mustRecv(t, b, "x"))
	wantClosed(t, "the file", r)
}

// TestReadDropsFile reads bytes that have a file with a plain Read.
func TestReadDropsFile(t *testing.T) {
	noLeak(t)
	a, b := pair(t, true)
	r, w := pipe(t)
	mustSend(t, a, "ab", w)
	mustClose(t, w)
	p := make([]byte, 2)
	if n, err := Read(b, p, 0); n != 2 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	wantClosed(t, "the file whose bytes were read", r)
}

// TestSeveralFiles sends the write ends of up to five pipes in one control
// message. Where the room is rounded up two arrive, where it is not the kernel
// cuts the message; either way one at most stays open.
func TestSeveralFiles(t *testing.T) {
	for count := 2; count <= 5; count++ {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			noLeak(t)
			a, b := pair(t, true)
			if count > 2 && runtime.GOOS == "linux" && installsBeyondRoom(t) {
				t.Skip("this is no real linux kernel: it installs files for which there is no room")
			}
			var rs, ws []int
			for range count {
				r, w := pipe(t)
				rs, ws = append(rs, r), append(ws, w)
			}
			check.Must(t, syscall.Sendmsg(a, []byte("many"), syscall.UnixRights(ws...), nil, 0))
			for _, w := range ws {
				mustClose(t, w)
			}
			before := len(openFDs())
			p := make([]byte, 8)
			n, file, lost, err := Recv(b, p, 0)
			if err != nil || string(p[:n]) != "many" {
				t.Fatalf("recv %q, %v", p[:n], err)
			}
			if lost == (file >= 0) {
				t.Fatalf("file %d and lost %v", file, lost)
			}
			for i, r := range rs[1:] {
				wantClosed(t, fmt.Sprintf("file %d of %d", i+2, count), r)
			}
			if lost {
				wantClosed(t, "the first file, which is lost", rs[0])
				return
			}
			check.Equal(t, "open descriptors", len(openFDs()), before+1)
			if !cloexec(t, file) {
				t.Error("the file survives exec")
			}
			if allClosed(t, rs[0]) {
				t.Error("the kept file is not the first")
			}
			mustClose(t, file)
			wantClosed(t, "the first file behind the kept one", rs[0])
		})
	}
}

// installsBeyondRoom asks for one of three files. No Linux kernel installs more
// than two then, but an emulator of system calls may; nothing can be done about
// that in one call.
func installsBeyondRoom(t *testing.T) bool {
	t.Helper()
	a, b := pair(t, true)
	check.Must(t, syscall.Sendmsg(a, []byte("x"), syscall.UnixRights(a, a, a), nil, 0))
	before := openFDs()
	oob := make([]byte, unix.CmsgSpace(sizeofFD))
	_, _, _, _, err := syscall.Recvmsg(b, make([]byte, 1), oob, 0)
	check.Must(t, err)
	installed := 0
	for _, fd := range openFDs() {
		if !slices.Contains(before, fd) {
			installed++
			mustClose(t, fd)
		}
	}
	return installed > 2
}

// cmsg is one control message as a kernel may leave it.
type cmsg struct {
	level, typ int32
	size       int // what the header says, if not 0
	data       []int
	odd        int // bytes after the data
}

func (c cmsg) append(b []byte) []byte {
	at := len(b)
	size := unix.CmsgLen(len(c.data)*sizeofFD + c.odd)
	b = append(b, make([]byte, unix.CmsgSpace(len(c.data)*sizeofFD+c.odd))...)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type = c.level, c.typ
	if c.size != 0 {
		size = c.size
	}
	h.SetLen(size)
	for i, fd := range c.data {
		binary.NativeEndian.PutUint32(b[at+unix.CmsgLen(i*sizeofFD):], uint32(fd))
	}
	return b
}

// TestKeepFirst feeds control messages that no kernel here produces. In the
// table a descriptor is a number from 1 up, for the first, second... file.
func TestKeepFirst(t *testing.T) {
	const rights, sol = unix.SCM_RIGHTS, unix.SOL_SOCKET
	tests := []struct {
		name string
		msgs []cmsg
		cut  int   // bytes to take away at the end
		kept int   // 0: none
		open []int // besides the kept one: those not looked at
	}{
		{name: "nothing"},
		{name: "one", msgs: []cmsg{{sol, rights, 0, []int{1}, 0}}, kept: 1},
		{name: "three", msgs: []cmsg{{sol, rights, 0, []int{1, 2, 3}, 0}}, kept: 1},
		{name: "none in it", msgs: []cmsg{{sol, rights, 0, nil, 0}}},
		{name: "two messages", msgs: []cmsg{{sol, rights, 0, []int{1, 2}, 0}, {sol, rights, 0, []int{3}, 0}}, kept: 1},
		{name: "empty one first", msgs: []cmsg{{sol, rights, 0, nil, 0}, {sol, rights, 0, []int{1}, 0}}, kept: 1},
		{name: "another type first", msgs: []cmsg{{sol, rights + 1, 0, []int{1, 2, 3}, 0}, {sol, rights, 0, []int{4}, 0}}, kept: 4, open: []int{1, 2, 3}},
		{name: "another level", msgs: []cmsg{{sol + 1, rights, 0, []int{1}, 0}}, open: []int{1}},
		{name: "length far beyond", msgs: []cmsg{{sol, rights, unix.CmsgLen(16 * sizeofFD), []int{1, 2}, 0}}, kept: 1},
		{name: "length beyond everything", msgs: []cmsg{{sol, rights, 1<<31 - 1, []int{1, 2}, 0}}, kept: 1},
		{name: "length too small", msgs: []cmsg{{sol, rights, unix.CmsgLen(0) - 1, []int{1}, 0}}, open: []int{1}},
		{name: "one refused, SO_RIGHTS_NOTRUNC", msgs: []cmsg{{sol, rights, 0, []int{-int(unix.EACCES)}, 0}}},
		{name: "odd bytes", msgs: []cmsg{{sol, rights, 0, []int{1}, 3}}, kept: 1},
		{name: "cut in a header", msgs: []cmsg{{sol, rights, 0, []int{1}, 0}, {sol, rights, 0, nil, 0}}, cut: 1, kept: 1},
		{name: "only part of a header", msgs: []cmsg{{sol, rights, 0, nil, 0}}, cut: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeak(t)
			_, w := pipe(t)
			fds := make(map[int]int)
			state := make(map[int]bool) // of the numbers in the table: to stay open
			var b []byte
			for _, m := range tt.msgs {
				data := make([]int, len(m.data))
				for i, k := range m.data {
					if data[i] = k; k < 0 {
						continue
					}
					fd, err := Dup(w)
					check.Must(t, err)
					fds[k], data[i], state[k] = fd, fd, false
				}
				m.data = data
				b = m.append(b)
			}
			mustClose(t, w)
			want := -1
			if tt.kept != 0 {
				want, state[tt.kept] = fds[tt.kept], true
			}
			for _, k := range tt.open {
				state[k] = true
			}
			b = b[:len(b)-tt.cut]
			check.Equal(t, "kept", keepFirst(slices.Clip(b)), want)
			for k, open := range state {
				_, err := unix.FcntlInt(uintptr(fds[k]), unix.F_GETFD, 0)
				check.Equal(t, fmt.Sprintf("descriptor %d: open", k), err == nil, open)
				if err == nil {
					mustClose(t, fds[k])
				}
			}
		})
	}
}

// FuzzControl parses what no kernel writes: nothing is read beyond the end, no
// descriptor is found that is not there, and the search ends.
func FuzzControl(f *testing.F) {
	const rights, sol = unix.SCM_RIGHTS, unix.SOL_SOCKET
	for _, msgs := range [][]cmsg{
		{{sol, rights, 0, []int{3}, 0}},
		{{sol, 2, 0, []int{1, 2, 3}, 0}, {sol, rights, 0, []int{4, 5}, 0}, {sol, 4, 0, []int{6}, 0}},
		{{sol, rights, 1 << 30, []int{1}, 3}},
		{{sol, rights, 1, []int{1}, 0}},
		{{sol, 4, 0, []int{-3}, 0}},
	} {
		var b []byte
		for _, m := range msgs {
			b = m.append(b)
		}
		f.Add(b, uint8(0))
		f.Add(b, uint8(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		words := make([]uint64, len(in)/8+1) // aligned, as the kernel's are
		b := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)[:len(in)]
		copy(b, in)
		b = b[:max(0, len(b)-int(cut))]
		found := 0
		eachDescriptor(slices.Clip(b), func(typ int32, fd int) {
			found++
			if fd < 0 || typ != rights && typ != scmPidFD {
				t.Errorf("descriptor %d in a message of type %d", fd, typ)
			}
			p := binary.NativeEndian.AppendUint32(nil, uint32(fd))
			if !bytes.Contains(b, p) {
				t.Errorf("descriptor %d is not in %x", fd, b)
			}
		})
		if found > len(b)/sizeofFD {
			t.Errorf("%d descriptors in %d bytes", found, len(b))
		}
	})
}
