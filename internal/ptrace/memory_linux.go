//go:build amd64 || arm64

package ptrace

import (
	"encoding/binary"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory reads what a stopped thread's call was given.
type memory struct {
	tid   int
	iov   []unix.RemoteIovec // what is to be read
	at    int                // the first of it that was not
	size  uint64             // bytes in it
	want  []unix.RemoteIovec
	buf   []byte
	ctl   []byte
	fds   []int32
	raw   []rawIovec
	local [1]unix.Iovec
}

// msghdr and mmsghdr are the kernel's structs, of 64 bits.
type msghdr struct {
	name       uint64
	nameLen    uint32
	_          uint32
	iov        uint64
	iovLen     uint64
	control    uint64
	controlLen uint64
	flags      uint32
	_          uint32
}

type mmsghdr struct {
	msghdr
	n uint32
	_ uint32
}

type rawIovec struct{ base, len uint64 }

const (
	sizeofMmsghdr = uint64(unsafe.Sizeof(mmsghdr{}))
	sizeofIovec   = int(unsafe.Sizeof(rawIovec{}))
	maxIovecs     = 1024     // UIO_MAXIOV: neither the call nor process_vm_readv takes more
	maxControl    = 64 << 10 // bytes of control messages: a message has at most 253 descriptors
)

// begin names the thread, and forgets what was added.
func (m *memory) begin(tid int) { m.tid, m.iov, m.at, m.size = tid, m.iov[:0], 0, 0 }

// add names n bytes to be read.
func (m *memory) add(base, n uint64) {
	if n = min(n, 1<<31); n > 0 { // no call moves more
		m.iov = append(m.iov, unix.RemoteIovec{Base: uintptr(base), Len: int(n)})
		m.size += n
	}
}

// vector adds what an array of n iovecs names.
func (m *memory) vector(base, n uint64) {
	if n == 0 || n > maxIovecs {
		return
	}
	if cap(m.raw) == 0 {
		m.raw = make([]rawIovec, maxIovecs)
	}
	raw := m.raw[:n]
	if !m.copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw[0])), int(n)*sizeofIovec), base) {
		return
	}
	for _, v := range raw {
		m.add(v.base, v.len)
	}
}

func (m *memory) header(h *msghdr, base uint64) bool {
	return m.copy(unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h)), base)
}

func (m *memory) header2(h *mmsghdr, base uint64) bool {
	return m.copy(unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h)), base)
}

// rights returns the descriptors in a control buffer.
func (m *memory) rights(base, n uint64) []int32 {
	m.fds = m.fds[:0]
	if n < unix.SizeofCmsghdr || n > maxControl {
		return nil
	}
	if uint64(cap(m.ctl)) < n {
		m.ctl = make([]byte, n)
	}
	p := m.ctl[:n]
	if !m.copy(p, base) {
		return nil
	}
	for len(p) >= unix.SizeofCmsghdr {
		ne := binary.NativeEndian
		size := ne.Uint64(p)
		if size < unix.SizeofCmsghdr || size > uint64(len(p)) {
			break
		}
		if ne.Uint32(p[8:]) == unix.SOL_SOCKET && ne.Uint32(p[12:]) == unix.SCM_RIGHTS {
			for data := p[unix.SizeofCmsghdr:size]; len(data) >= 4; data = data[4:] {
				m.fds = append(m.fds, int32(ne.Uint32(data)))
			}
		}
		p = p[min((size+7)&^7, uint64(len(p))):]
	}
	return m.fds
}

// next returns the next n bytes of what was added; fewer if the rest cannot be
// read. They are valid until the next call.
func (m *memory) next(n int) []byte {
	m.want = m.want[:0]
	got := 0
	for m.at < len(m.iov) && got < n {
		v := &m.iov[m.at]
		part := min(v.Len, n-got)
		m.want = append(m.want, unix.RemoteIovec{Base: v.Base, Len: part})
		got += part
		if v.Base, v.Len = v.Base+uintptr(part), v.Len-part; v.Len == 0 {
			m.at++
		}
	}
	if cap(m.buf) < got {
		m.buf = make([]byte, max(got, 64<<10))
	}
	return m.buf[:m.read(m.buf[:got], m.want)]
}

// copy fills p from one address.
func (m *memory) copy(p []byte, base uint64) bool {
	m.want = append(m.want[:0], unix.RemoteIovec{Base: uintptr(base), Len: len(p)})
	return m.read(p, m.want) == len(p)
}

// read fills p, and returns how far it got.
func (m *memory) read(p []byte, from []unix.RemoteIovec) int {
	if len(p) == 0 {
		return 0
	}
	m.local[0].Base = &p[0]
	m.local[0].SetLen(len(p))
	n, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(m.tid), uintptr(unsafe.Pointer(&m.local[0])), 1,
		uintptr(unsafe.Pointer(&from[0])), uintptr(len(from)), 0)
	m.local[0].Base = nil
	switch errno {
	case 0:
		return int(n)
	case unix.EPERM, unix.ENOSYS: // filters of containers forbid it, where ptrace is allowed
		return m.readFile(p, from)
	}
	return 0
}

// readFile is read by other means.
func (m *memory) readFile(p []byte, from []unix.RemoteIovec) (n int) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(m.tid)+"/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	for _, v := range from {
		got, err := unix.Pread(fd, p[n:n+v.Len], int64(v.Base))
		if err != nil {
			break
		}
		if n += got; got < v.Len {
			break
		}
	}
	return n
}
