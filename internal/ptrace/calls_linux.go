//go:build amd64 || arm64

package ptrace

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel's struct ptrace_syscall_info says of the two stops of a call.
const (
	atEntry = unix.PTRACE_SYSCALL_INFO_ENTRY
	atExit  = unix.PTRACE_SYSCALL_INFO_EXIT
)

// syscall looks at a thread that is at the beginning or the end of a call.
func (e *engine) syscall(t *thread) {
	if t.other { // and now at its end
		t.other = false
		return
	}
	var info syscallInfo
	switch errno := info.get(t.tid); errno {
	case 0:
	case unix.EIO, unix.EINVAL:
		e.err = fmt.Errorf("the kernel does not tell about calls (%w): Linux 5.3 does", errno)
		return
	default: // it was killed
		return
	}
	switch info.op {
	case atEntry:
		t.nr = none
		if info.arch != nativeArch || info.nr&x32Bit != 0 {
			t.foreign = true
			e.warnOnce(t.proc, warnForeign, "process %d: %s is a 32-bit program: its calls cannot be shown; it goes on untraced, 64-bit programs that it executes are shown", t.proc.PID, t.proc.Exe)
			return
		}
		if moves(info.nr) {
			t.nr, t.args, t.start = info.nr, info.args, time.Now()
		} else {
			t.other = true
			e.hidden(t, &info)
		}
	case atExit:
		if t.nr != none {
			e.moved(t, info.result())
			t.nr = none
		}
	}
}

// none is no call's number.
const none = ^uint64(0)

// moves reports whether a call may move bytes over a socket.
func moves(nr uint64) bool {
	switch nr {
	case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_RECVFROM,
		unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG:
		return true
	}
	return false
}

// hidden warns of calls that may move bytes unseen.
func (e *engine) hidden(t *thread, info *syscallInfo) {
	var name string
	out := uint64(0)
	switch info.nr {
	case unix.SYS_IO_URING_SETUP:
		e.warnOnce(t.proc, warnUring, "process %d: %s uses io_uring: what it sends and receives that way is not seen", t.proc.PID, t.proc.Exe)
		return
	case unix.SYS_SENDFILE:
		name, out = "sendfile", info.args[0]
	case unix.SYS_SPLICE:
		name, out = "splice", info.args[2]
	default:
		return
	}
	if s := e.socket(t, int(int32(out))); s != nil {
		e.warnOnce(t.proc, warnCopy, "process %d: %s writes to a socket with %s: that is not seen", t.proc.PID, t.proc.Exe, name)
	}
}

// moved handles the end of a call that may have moved n bytes, or n messages.
func (e *engine) moved(t *thread, n int) {
	var write bool
	switch t.nr {
	case unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		write = true
	}
	if n < 0 || n == 0 && write {
		return
	}
	s := e.socket(t, int(int32(t.args[0])))
	if s == nil {
		return
	}
	e.call = Call{Start: t.start, End: time.Now(), Process: t.proc, TID: t.tid, FD: int(int32(t.args[0])), Socket: s, Write: write}
	m := &e.memory
	m.begin(t.tid)
	switch t.nr {
	case unix.SYS_READ, unix.SYS_WRITE:
		m.add(t.args[1], t.args[2])
		e.give(n)
	case unix.SYS_SENDTO, unix.SYS_RECVFROM:
		if !write && t.args[3]&unix.MSG_PEEK != 0 {
			return
		}
		m.add(t.args[1], t.args[2])
		e.give(n)
	case unix.SYS_READV, unix.SYS_WRITEV:
		m.vector(t.args[1], t.args[2])
		e.give(n)
	case unix.SYS_SENDMSG, unix.SYS_RECVMSG:
		if !write && t.args[2]&unix.MSG_PEEK != 0 {
			return
		}
		var h msghdr
		if m.header(&h, t.args[1]) {
			e.message(&h, n)
		} else {
			e.give(n)
		}
	case unix.SYS_SENDMMSG, unix.SYS_RECVMMSG:
		if !write && t.args[3]&unix.MSG_PEEK != 0 {
			return
		}
		for i := range n {
			var h mmsghdr
			if !m.header2(&h, t.args[1]+uint64(i)*sizeofMmsghdr) {
				return
			}
			if h.n == 0 && write {
				continue
			}
			m.begin(t.tid)
			e.message(&h.msghdr, int(h.n))
		}
	}
}

// message gives what one message of a call moved.
func (e *engine) message(h *msghdr, n int) {
	c, m := &e.call, &e.memory
	c.Files, c.Lost = c.Files[:0], false
	for _, fd := range m.rights(h.control, h.controlLen) {
		c.Files = append(c.Files, c.Process.file(int(fd)))
	}
	c.Lost = !c.Write && h.flags&unix.MSG_CTRUNC != 0
	m.vector(h.iov, h.iovLen)
	e.give(n)
}

// give hands over n bytes of the memory that was named. Many come in pieces.
func (e *engine) give(n int) {
	c := &e.call
	full := n > 0 && uint64(n) == e.memory.size
	for first := true; first || n > 0; first = false {
		c.N = min(n, pieceSize)
		c.Full = full || n > c.N
		c.Data = e.memory.next(c.N)
		if len(c.Data) < c.N {
			e.warnOnce(c.Process, warnMemory, "process %d: the memory of %s is hidden from other users than root, so only lengths are known: run as root", c.Process.PID, c.Process.Exe)
		}
		n -= c.N
		if e.cfg.Call != nil {
			e.cfg.Call(c)
		}
		c.Files, c.Lost = c.Files[:0], false
	}
}

// pieceSize is how much of one call is held at a time.
const pieceSize = 1 << 20
