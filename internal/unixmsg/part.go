//go:build unix && !aix

package unixmsg

// A Part is what one receive of RecvMany brought: N bytes, and File and Lost
// as Recv returns them. Full says that there was no room for more.
type Part struct {
	N, File    int32
	Lost, Full bool
}

// MaxParts is how many parts RecvMany can fill. More would save little, and each
// has room for many descriptors of a hostile peer (see control).
const MaxParts = 8

const minPart = 64 // bytes of room for one part

func recvOne(fd int, p []byte, parts []Part, flags Flags) (int, error) {
	n, file, lost, err := Recv(fd, p, flags)
	parts[0] = Part{int32(n), int32(file), lost, n == len(p)}
	if err != nil {
		return 0, err
	}
	return 1, nil
}
