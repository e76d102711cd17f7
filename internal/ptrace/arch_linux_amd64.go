package ptrace

import "golang.org/x/sys/unix"

// nativeArch is the machine of a program of this one's kind; x32Bit marks the
// calls of one with 32-bit pointers.
const (
	nativeArch = unix.AUDIT_ARCH_X86_64
	x32Bit     = 1 << 30
)
