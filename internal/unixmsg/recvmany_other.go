//go:build unix && !aix && !linux

package unixmsg

// RecvMany is Recv: there is one part. Compiled, not run.
func RecvMany(fd int, p []byte, parts []Part, flags Flags) (int, error) {
	return recvOne(fd, p, parts, flags)
}
