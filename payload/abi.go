package payload

import (
	"fmt"
	"runtime"
	"unsafe"
)

// An ABI says how a C compiler lays out structs. Byte order is always the
// host's: imsg does not leave the machine.
type ABI uint8

const (
	// LP64 has longs, pointers and 8-byte types of 8 bytes, aligned to 8: all
	// 64-bit Unix systems.
	LP64 ABI = iota

	// I386 has longs and pointers of 4 bytes, and aligns 8-byte types to 4.
	I386

	// ILP32 has longs and pointers of 4 bytes, and aligns 8-byte types to 8:
	// ARM EABI, and most other 32-bit machines.
	ILP32
)

// Host returns the ABI of C programs on this machine, if they are built for
// the architecture that this program is built for.
func Host() ABI {
	switch {
	case unsafe.Sizeof(uintptr(0)) == 8:
		return LP64
	case runtime.GOARCH == "386":
		return I386
	}
	return ILP32
}

// String returns the name of the constant.
func (a ABI) String() string {
	switch a {
	case LP64:
		return "LP64"
	case I386:
		return "I386"
	case ILP32:
		return "ILP32"
	}
	return fmt.Sprintf("ABI %d", uint8(a))
}

// long is the size of a C long.
func (a ABI) long() int {
	if a == LP64 {
		return 8
	}
	return 4
}

// align is the alignment of a scalar type of n bytes.
func (a ABI) align(n int) int {
	if n == 8 && a == I386 {
		return 4
	}
	return n
}
