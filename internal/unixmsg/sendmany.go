//go:build unix && !aix

package unixmsg

// A Group is what one send of SendMany carries: the bytes of Bufs, and the file
// if File is not negative.
type Group struct {
	Bufs [][]byte
	File int
}

// MaxGroups is how many groups SendMany sends at most.
const MaxGroups = 32

// sendFirst sends the first group by itself.
func sendFirst(fd int, groups []Group, flags Flags) (int, error) {
	return Send(fd, groups[0].Bufs, groups[0].File, flags)
}
