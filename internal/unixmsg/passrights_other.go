//go:build darwin || dragonfly || freebsd || illumos || netbsd || openbsd || solaris

package unixmsg

import "errors"

// SetPassRights says whether the peer of the socket fd may attach files to what
// it sends. Only Linux 6.16 can refuse them; here the error is always
// errors.ErrUnsupported. Where files are not expected use Read, which makes the
// kernel drop them.
func SetPassRights(fd int, on bool) error {
	return errors.ErrUnsupported
}
