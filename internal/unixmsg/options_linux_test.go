package unixmsg

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// options make the kernel add control messages to what a peer sends.
var options = map[string][]int{
	"SO_PASSCRED":    {unix.SO_PASSCRED},
	"SO_PASSSEC":     {unix.SO_PASSSEC},
	"SO_PASSPIDFD":   {unix.SO_PASSPIDFD},
	"SO_TIMESTAMP":   {unix.SO_TIMESTAMP},
	"SO_TIMESTAMPNS": {unix.SO_TIMESTAMPNS},
	"SO_INQ":         {unix.SO_INQ},
	"all":            {unix.SO_PASSCRED, unix.SO_PASSSEC, unix.SO_PASSPIDFD, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_INQ},
}

// setOptions sets those that the kernel has.
func setOptions(t *testing.T, fd int, options []int) {
	t.Helper()
	set := 0
	for _, o := range options {
		switch err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1); err {
		case nil:
			set++
		case unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		default:
			t.Fatal(err)
		}
	}
	if set == 0 {
		t.Skip("the kernel does not have this option")
	}
}

// TestOptions receives plain bytes and files from a socket on which somebody
// sets options, before the first message or between two.
func TestOptions(t *testing.T) {
	receives := map[string]func(fd int, p []byte) ([]Part, error){
		"Recv": func(fd int, p []byte) ([]Part, error) {
			parts := make([]Part, 1)
			_, err := recvOne(fd, p, parts, 0)
			return parts, err
		},
		"RecvMany": func(fd int, p []byte) ([]Part, error) {
			parts := make([]Part, MaxParts)
			n, err := RecvMany(fd, p, parts, 0)
			return parts[:n], err
		},
	}
	for name, opts := range options {
		for rname, receive := range receives {
			for at := range 4 {
				t.Run(fmt.Sprintf("%s/%s/before message %d", name, rname, at), func(t *testing.T) {
					noLeak(t)
					_, other := pair(t, true)
					setOptions(t, other, opts) // or skip, before there is anything to close
					a, b := pair(t, true)
					r, w := pipe(t)
					const n = 8
					files := 0
					for i := range n {
						if i == at {
							setOptions(t, b, opts)
						}
						file := -1
						if i%3 != 0 {
							file = w
							files++
						}
						mustSend(t, a, "hello", file)
						if rname == "Recv" || i < at {
							files -= receiveAll(t, b, receive)
						}
					}
					files -= receiveAll(t, b, receive)
					check.Equal(t, "files that are missing", files, 0)
					mustClose(t, w)
					wantClosed(t, "the files", r)
				})
			}
		}
	}
}

// receiveAll receives what is there, and returns the number of files.
func receiveAll(t *testing.T, fd int, receive func(int, []byte) ([]Part, error)) (files int) {
	t.Helper()
	p := make([]byte, 4<<10)
	for {
		parts, err := receive(fd, p)
		if err == unix.EAGAIN {
			return files
		}
		check.Must(t, err)
		for _, part := range parts {
			if part.Lost {
				t.Error("a file was lost")
			}
			if part.File >= 0 {
				files++
				mustClose(t, int(part.File))
			}
		}
	}
}

// TestOptionsRead reads without room for files: nothing stays open.
func TestOptionsRead(t *testing.T) {
	for name, opts := range options {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			a, b := pair(t, true)
			setOptions(t, b, opts)
			r, w := pipe(t)
			for _, file := range []int{-1, w} {
				mustSend(t, a, "hello", file)
				p := make([]byte, 64)
				if n, err := Read(b, p, 0); string(p[:n]) != "hello" || err != nil {
					t.Errorf("%q, %v", p[:n], err)
				}
			}
			mustClose(t, w)
			wantClosed(t, "the file", r)
		})
	}
}

// TestCheckStreamLinux checks what only this system has, and sockets of other
// families.
func TestCheckStreamLinux(t *testing.T) {
	noLeak(t)
	netlink, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	check.Must(t, err)
	closeLater(t, netlink)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	check.Must(t, err)
	closeLater(t, epoll)
	refused := func(fd int, text string, want error) {
		t.Helper()
		if err := CheckStream(fd); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %v and %q", err, want, text)
		}
	}
	refused(netlink, "domain 16 type 3 socket", unix.EAFNOSUPPORT)
	refused(epoll, "anonymous file", unix.ENOTSOCK)
	tcp, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == unix.EAFNOSUPPORT {
		t.Skip("no IPv6")
	}
	check.Must(t, err)
	closeLater(t, tcp)
	refused(tcp, "IPv6 stream socket", unix.EAFNOSUPPORT)
	if name, err := Name(tcp); name != "" || err != nil {
		t.Errorf("the name of an IPv6 socket is %q, %v", name, err)
	}
}

// TestFileWithoutBytes receives a file that no byte came with, as stream sockets
// of this system never carry it: it is closed, and what follows is received.
func TestFileWithoutBytes(t *testing.T) {
	p, parts := make([]byte, 1<<16), make([]Part, MaxParts)
	for name, receive := range map[string]func(fd int) (int, error){
		"Recv": func(fd int) (int, error) { return readers["Recv"](fd, p) },
		"RecvMany": func(fd int) (int, error) {
			n, err := RecvMany(fd, p, parts, 0)
			if err == nil && (n != 1 || parts[0].File >= 0) {
				t.Errorf("%d parts, %+v", n, parts[0])
			}
			return int(parts[0].N), err
		},
	} {
		noLeak(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		check.Must(t, err)
		closeLater(t, fds[0])
		closeLater(t, fds[1])
		r, w := pipe(t)
		check.Must(t, unix.Sendmsg(fds[0], nil, unix.UnixRights(w), nil, 0))
		mustClose(t, w)
		if n, err := receive(fds[1]); err != unix.EAGAIN {
			t.Errorf("%s: the file alone: %d, %v", name, n, err)
		}
		wantClosed(t, name+": the file", r)
		check.Must(t, unix.Sendmsg(fds[0], []byte("next"), nil, nil, 0))
		if n, err := receive(fds[1]); err != nil || string(p[:n]) != "next" {
			t.Errorf("%s: %q, %v", name, p[:n], err)
		}
	}
}
