//go:build unix && !aix

package unixmsg

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sizeofFD is the size of a descriptor in a control message.
const sizeofFD = 4

// control is memory for one control message with one descriptor. It is made of
// words for the sake of alignment and large enough everywhere: netbsd/arm64
// needs all of it, others 16 or 24 bytes.
type control [4]uint64

// bytes returns the part of c to show to the kernel. On most 64-bit systems
// that part has room for two descriptors, because it is rounded up.
func (c *control) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), unix.CmsgSpace(sizeofFD))
}

// set makes c the control message that carries file and returns it.
func (c *control) set(file int) []byte {
	b := c.bytes()
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level = unix.SOL_SOCKET
	h.Type = unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(sizeofFD))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], uint32(file))
	return b
}

// keepFirst returns the first descriptor in the control messages b, or -1, and
// closes all others. b must be exactly what the kernel wrote.
//
// The length in a header is only trusted up to the end of b: macOS leaves it
// at what the sender wrote when the message was cut.
func keepFirst(b []byte) int {
	file := -1
	start := unix.CmsgLen(0)
	for len(b) >= start {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if uint64(h.Len) < uint64(start) {
			break
		}
		end := int(min(uint64(h.Len), uint64(len(b))))
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_RIGHTS {
			for data := b[start:end]; len(data) >= sizeofFD; data = data[sizeofFD:] {
				fd := int(int32(binary.NativeEndian.Uint32(data)))
				if file < 0 {
					file = fd
				} else {
					unix.Close(fd)
				}
			}
		}
		next := unix.CmsgSpace(end - start)
		if next >= len(b) {
			break
		}
		b = b[next:]
	}
	return file
}
