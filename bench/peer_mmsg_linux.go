package main

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// mmsgBatch is how many messages one system call moves.
const mmsgBatch = 64

func mmsgPeers() []peer {
	return []peer{{name: "raw-mmsg", drive: mmsgFile, serve: mmsgFileSink}}
}

// An mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// A mmsg is mmsgBatch messages without payload, with room for a descriptor
// each.
type mmsg struct {
	hdrs [mmsgBatch]mmsghdr
	iovs [mmsgBatch]unix.Iovec
	data [mmsgBatch][imsg.HeaderSize]byte
	oob  [mmsgBatch][]byte
}

func newMmsg() *mmsg {
	m := new(mmsg)
	for i := range m.hdrs {
		m.oob[i] = make([]byte, unix.CmsgSpace(4))
		m.iovs[i].Base = &m.data[i][0]
		m.iovs[i].SetLen(imsg.HeaderSize)
		h := &m.hdrs[i].hdr
		h.Iov, h.Control = &m.iovs[i], &m.oob[i][0]
		h.SetIovlen(1)
		h.SetControllen(len(m.oob[i]))
	}
	return m
}

// call is one sendmmsg(2) or recvmmsg(2) of up to k messages.
func (m *mmsg) call(trap uintptr, k, flags int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(trap, channel, uintptr(unsafe.Pointer(&m.hdrs)), uintptr(k), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func mmsgFile(int) (step, error) {
	null, err := openNull()
	if err != nil {
		return nil, err
	}
	m := newMmsg()
	for i := range m.hdrs {
		putHeader(m.data[i][:], typeData, imsg.HeaderSize, 0)
		copy(m.oob[i], unix.UnixRights(null))
	}
	send := func(k int) error {
		for k > 0 {
			n, err := m.call(unix.SYS_SENDMMSG, min(k, mmsgBatch), 0)
			if err != nil {
				return err
			}
			k -= n
		}
		return nil
	}
	return func(n int) error { return window(n, send, rawSync) }, nil
}

func mmsgFileSink(int) error {
	m := newMmsg()
	for count := uint32(0); ; {
		n, err := m.call(unix.SYS_RECVMMSG, mmsgBatch, unix.MSG_WAITFORONE)
		if err != nil {
			return err
		}
		for i := range n {
			h := &m.hdrs[i]
			if h.n == 0 {
				return nil
			}
			if h.n < imsg.HeaderSize {
				return fmt.Errorf("%d bytes instead of a message", h.n)
			}
			if int(h.hdr.Controllen) >= unix.CmsgLen(4) {
				unix.Close(rightOf(m.oob[i]))
				count++
			}
			h.hdr.SetControllen(len(m.oob[i])) // the kernel has changed it
			if binary.NativeEndian.Uint32(m.data[i][:]) == typeSync {
				if err := writeAll(message(typeSync, 0, count)); err != nil {
					return err
				}
				count = 0
			}
		}
	}
}
