//go:build amd64 || arm64

package ptrace

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func sendMany(fd int, texts ...string) error {
	hdrs := make([]unixMmsghdr, len(texts))
	iovs := make([]unix.Iovec, len(texts))
	for i, s := range texts {
		iovs[i].Base = unsafe.StringData(s)
		iovs[i].SetLen(len(s))
		hdrs[i].hdr.Iov = &iovs[i]
		hdrs[i].hdr.SetIovlen(1)
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), 0, 0, 0)
	if errno != 0 || int(n) != len(texts) {
		return fmt.Errorf("sendmmsg: %d, %w", n, errno)
	}
	return nil
}

func recvMany(fd int, sizes ...int) error {
	hdrs := make([]unixMmsghdr, len(sizes))
	iovs := make([]unix.Iovec, len(sizes))
	for i, n := range sizes {
		iovs[i].Base = &make([]byte, n)[0]
		iovs[i].SetLen(n)
		hdrs[i].hdr.Iov = &iovs[i]
		hdrs[i].hdr.SetIovlen(1)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), 0, 0, 0)
	if errno != 0 || int(n) != len(sizes) {
		return fmt.Errorf("recvmmsg: %d, %w", n, errno)
	}
	return nil
}

type unixMmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   uint32
}

// onOtherThread calls f on a thread that is not the process's first.
func onOtherThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			onOtherThread(f)
			select {}
		}
		f()
	}()
}

// signals counts a signal.
type signals struct {
	c   chan os.Signal
	sig syscall.Signal
}

func newSignals(sig syscall.Signal) *signals {
	s := &signals{make(chan os.Signal, 1), sig}
	signal.Notify(s.c, sig)
	return s
}

// raise sends the signal to this process, and waits until it has come.
func (s *signals) raise() {
	check(unix.Kill(os.Getpid(), s.sig))
	<-s.c
}
