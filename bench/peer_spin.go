package main

import (
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// busy is how long the peers that poll busily go on before they sleep.
const busy = time.Millisecond

// rawSpinPing never sleeps while the other side answers soon.
func rawSpinPing(size int) (step, error) {
	if err := unix.SetNonblock(channel, true); err != nil {
		return nil, err
	}
	return rawRoundTrips(size, spinFull)
}

func rawSpinEcho(size int) error {
	if err := unix.SetNonblock(channel, true); err != nil {
		return err
	}
	return rawAnswer(size, spinFull)
}

// spinFull is readFull that tries again and again before it waits in poll(2).
func spinFull(p []byte) error {
	for begin, tries := time.Now(), 1; len(p) > 0; tries++ {
		n, err := read(p)
		if err == nil {
			p = p[n:]
			continue
		}
		if err != unix.EAGAIN {
			return err
		}
		if tries%16 == 0 && time.Since(begin) > busy {
			if err := waitReadable(); err != nil {
				return err
			}
			begin = time.Now()
		}
	}
	return nil
}

// waitReadable waits in poll(2) until the channel can be read.
func waitReadable() error {
	fds := [1]unix.PollFd{{Fd: channel, Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err == nil && fds[0].Revents&unix.POLLNVAL != 0 {
			err = io.ErrClosedPipe
		}
		return err
	}
}
