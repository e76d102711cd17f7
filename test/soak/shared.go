package main

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shared is the memory that a worker has in common with the parent: what it
// shall do, and what it has done up to the moment it was killed.
type shared struct {
	order order
	book  ledger
}

const sharedSize = int(unsafe.Sizeof(shared{}))

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// newShared makes the memory and a file to inherit, which maps to it.
func newShared() (*shared, *os.File, error) {
	f, err := os.CreateTemp("", "soak")
	if err != nil {
		return nil, nil, err
	}
	os.Remove(f.Name())
	err = f.Truncate(int64(sharedSize))
	var sh *shared
	if err == nil {
		sh, err = mapShared(int(f.Fd()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return sh, f, nil
}

func mapShared(fd int) (*shared, error) {
	p, err := unix.Mmap(fd, 0, sharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*shared)(unsafe.Pointer(&p[0])), nil
}

func (s *shared) unmap() {
	unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(s)), sharedSize))
}
