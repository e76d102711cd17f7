package main

import (
	"encoding/binary"
	"fmt"
	"io"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// All peers do the same: the driver sends messages of type typeData, and at the
// end of its turn one of type typeSync, which the server answers with the number
// of messages that it has counted.
const (
	typeData = 1
	typeSync = 2
	typePing = 3

	chunk      = 64 << 10  // bytes that the small bare loops write and read at once
	batch      = 128 << 10 // bytes that are queued before they are written
	bigRead    = 256 << 10 // bytes that a busy Buf reads at once
	maxMessage = imsg.DefaultMaxSize

	// filesInFlight is how many descriptors may be on their way. The kernel
	// allows an ordinary user as many as he may have open.
	filesInFlight = 512
)

// counted compares the server's count with what was sent.
func counted(got uint32, sent int) error {
	if got != uint32(sent) {
		return fmt.Errorf("the server has counted %d messages of %d", got, uint32(sent))
	}
	return nil
}

// putHeader writes a header in the layout of package imsg.
func putHeader(p []byte, typ, size, id uint32) {
	h := p[:imsg.HeaderSize]
	binary.NativeEndian.PutUint32(h[0:], typ)
	binary.NativeEndian.PutUint32(h[4:], size)
	binary.NativeEndian.PutUint32(h[8:], id)
	binary.NativeEndian.PutUint32(h[12:], 0)
}

// message returns a message of size bytes of payload.
func message(typ uint32, size int, id uint32) []byte {
	p := make([]byte, imsg.HeaderSize+size)
	putHeader(p, typ, uint32(len(p)), id)
	return p
}

// writeAll writes p to the channel, which blocks.
func writeAll(p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(channel, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// read reads from the channel, which blocks; io.EOF at its end.
func read(p []byte) (int, error) {
	for {
		n, err := unix.Read(channel, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// readFull fills p from the channel; io.EOF at its end.
func readFull(p []byte) error {
	for len(p) > 0 {
		n, err := read(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// ended makes the end of the channel, where a server's work ends, no error.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
