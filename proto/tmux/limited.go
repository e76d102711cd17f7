package tmux

import "bytes"

// limited is a buffer that takes only so many bytes.
type limited struct {
	*bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) { return (&shared{l.Buffer, &l.left}).Write(p) }

// shared is the same with a limit that several share.
type shared struct {
	*bytes.Buffer
	left *int
}

func (s *shared) Write(p []byte) (int, error) {
	if len(p) > *s.left {
		return 0, ErrOutputTooLarge
	}
	*s.left -= len(p)
	return s.Buffer.Write(p)
}
