//go:build unix && !aix

package unixmsg

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sizeofFD is the size of a descriptor in a control message.
const sizeofFD = 4

// rights is memory for one control message with one descriptor, to be sent. It
// is made of words for the sake of alignment and large enough everywhere:
// netbsd/arm64 needs all of it, others 16 or 24 bytes.
type rights [4]uint64

// set makes r the control message that carries file and returns it.
func (r *rights) set(file int) []byte {
	b := unsafe.Slice((*byte)(unsafe.Pointer(r)), unix.CmsgSpace(sizeofFD))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level = unix.SOL_SOCKET
	h.Type = unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(sizeofFD))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], uint32(file))
	return b
}

// control is memory for the control messages of one receive. Linux writes, in
// this order and each only if its option is set: SCM_CREDENTIALS (SO_PASSCRED,
// 32 bytes), SCM_SECURITY (SO_PASSSEC, a label of any length), the file (24),
// SCM_PIDFD (SO_PASSPIDFD, 24) and SCM_INQ (SO_INQ, 24). What does not fit is
// dropped, the file too, so there is room for all of them but a label, and with
// a label of 40 bytes for the credentials, the label and the file.
//
// More room has a price: without those messages a hostile peer can make the
// kernel install 26 descriptors with each part of a receive (208 with MaxParts),
// which are closed at once. A descriptor table with less room than that is full
// for the moment, and another channel's file can be lost.
type control [15]uint64

func (c *control) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c))
}

// keepFirst returns the first passed descriptor in the control messages b, or
// -1, and closes all others, also those that the kernel has added by itself. b
// must be exactly what the kernel wrote.
func keepFirst(b []byte) int {
	file := -1
	eachDescriptor(b, func(typ int32, fd int) {
		if file < 0 && typ == unix.SCM_RIGHTS {
			file = fd
		} else {
			unix.Close(fd)
		}
	})
	return file
}

// eachDescriptor calls f for every descriptor in the control messages b, and the
// type of the message it is in.
//
// The length in a header is only trusted up to the end of b: macOS leaves it
// at what the sender wrote when the message was cut.
func eachDescriptor(b []byte, f func(typ int32, fd int)) {
	start := unix.CmsgLen(0)
	for len(b) >= start {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if uint64(h.Len) < uint64(start) {
			break
		}
		end := int(min(uint64(h.Len), uint64(len(b))))
		if h.Level == unix.SOL_SOCKET && (h.Type == unix.SCM_RIGHTS || h.Type == scmPidFD) {
			for data := b[start:end]; len(data) >= sizeofFD; data = data[sizeofFD:] {
				// Where there is none, some kernels say why with a negative number.
				if fd := int(int32(binary.NativeEndian.Uint32(data))); fd >= 0 {
					f(h.Type, fd)
				}
			}
		}
		next := unix.CmsgSpace(end - start)
		if next >= len(b) {
			break
		}
		b = b[next:]
	}
}
