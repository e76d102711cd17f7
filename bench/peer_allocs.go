package main

import (
	"runtime"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

const allocSize = 64 // bytes of payload

// mallocs returns how often do allocates while it is called n times, some calls
// to warm up not counted.
func mallocs(n int, do func() error) (int64, error) {
	var before, after runtime.MemStats
	for range 1000 {
		if err := do(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&before)
	for range n {
		if err := do(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return int64(after.Mallocs - before.Mallocs), nil
}

func connAllocs(n int) (int64, error) {
	a, b, err := imsg.Pair(nil)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	defer b.Close()
	payload := make([]byte, allocSize)
	return mallocs(n, func() error {
		if err := a.Send(background, imsg.Header{Type: typeData}, nil, payload); err != nil {
			return err
		}
		m, err := b.Receive(background)
		if err != nil {
			return err
		}
		return m.Close()
	})
}

func bufAllocs(n int) (int64, error) {
	fds, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	a, b, payload := imsg.NewBuf(fds[0], nil), imsg.NewBuf(fds[1], nil), make([]byte, allocSize)
	return mallocs(n, func() error {
		if err := a.Compose(imsg.Header{Type: typeData}, nil, payload); err != nil {
			return err
		}
		if err := a.Flush(); err != nil {
			return err
		}
		if err := b.ReadSocket(); err != nil {
			return err
		}
		for m := range b.All() {
			m.Close()
		}
		return nil
	})
}

func framerAllocs(n int) (int64, error) {
	f, p := newFramer(), message(typeData, allocSize, 0)
	return mallocs(n, func() error {
		_, err := decode(f, p, closeEach)
		return err
	})
}
