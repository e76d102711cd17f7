//go:build imsgfault

package unixmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of sys.go and sys_linux.go, with the hook in front.

// accept takes the place of the one in accept_cloexec.go.
func accept(fd int) (int, error) {
	return interceptCall("accept", fd, func() (int, error) {
		n, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return n, err
	})
}

func sysFcntl(fd, cmd, arg int) (int, error) {
	return interceptCall("fcntl", fd, func() (int, error) { return unix.FcntlInt(uintptr(fd), cmd, arg) })
}

func sysPassRights(fd, value int) error {
	_, err := interceptCall("setsockopt", fd, func() (struct{}, error) {
		return struct{}{}, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, value)
	})
	return err
}

func sysPeerCred(fd int) (*unix.Ucred, error) {
	return interceptCall("getsockopt", fd, func() (*unix.Ucred, error) {
		return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
}

func sysPoll(fds []unix.PollFd, millis int) (int, error) {
	return interceptCall("poll", int(fds[0].Fd), func() (int, error) { return unix.Poll(fds, millis) })
}

func sysSockopt(fd, option int) (int, error) {
	return interceptCall("getsockopt", fd, func() (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, option) })
}

func sysSocketpair(domain, typ, proto int) ([2]int, error) {
	return interceptCall("socketpair", -1, func() ([2]int, error) { return unix.Socketpair(domain, typ, proto) })
}

func sysSend(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	c := Call{Name: "sendmsg", FD: fd, Size: total(bufs), File: len(control) > 0}
	r := intercept(c, func(most int, _ Files) Result {
		n, err := sendmsg(fd, first(bufs, most), control, flags)
		return Result{N: n, Err: err}
	})
	return r.N, r.Err
}

// sysSendMany asks the hook about each message, and ends behind the first that
// does not go whole, as sendmmsg does.
func sysSendMany(fd int, msgs []mmsghdr, flags Flags) (n int, errno unix.Errno) {
	for i := range msgs {
		h := &msgs[i].hdr
		size := 0
		vecs := unsafe.Slice(h.Iov, h.Iovlen)
		for _, v := range vecs {
			size += int(v.Len)
		}
		r := intercept(Call{Name: "sendmsg", FD: fd, Size: size, File: h.Controllen > 0}, func(most int, _ Files) (r Result) {
			left := most
			for i := range vecs {
				k := min(left, int(vecs[i].Len))
				vecs[i].SetLen(k)
				left -= k
			}
			if _, errno := sendmmsg(fd, msgs[i:i+1], flags); errno != 0 {
				return Result{Err: errno}
			}
			return Result{N: int(msgs[i].n)}
		})
		if r.Err != nil {
			if n == 0 {
				return 0, r.Err.(unix.Errno)
			}
			break
		}
		if n++; r.N < size {
			break
		}
	}
	return n, 0
}

func total(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// first returns the first n bytes of bufs.
func first(bufs [][]byte, n int) [][]byte {
	if n == total(bufs) {
		return bufs
	}
	var head [][]byte
	for _, b := range bufs {
		k := min(n, len(b))
		head = append(head, b[:k])
		n -= k
	}
	return head
}
