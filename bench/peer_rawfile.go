package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// openNull opens what is passed around.
func openNull() (int, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open", err)
}

// window calls send for n operations in parts that may be in flight, and sync
// after each.
func window(n int, send, sync func(k int) error) error {
	for left := n; left > 0; {
		k := min(left, filesInFlight)
		if err := send(k); err != nil {
			return err
		}
		if err := sync(k); err != nil {
			return err
		}
		left -= k
	}
	return nil
}

// rawFile passes one descriptor with each sendmsg(2).
func rawFile(size int) (step, error) {
	null, err := openNull()
	if err != nil {
		return nil, err
	}
	p, rights := message(typeData, size, 0), unix.UnixRights(null)
	send := func(k int) error {
		for range k {
			if err := sendFile(p, rights); err != nil {
				return err
			}
		}
		return nil
	}
	return func(n int) error { return window(n, send, rawSync) }, nil
}

// rawFileSink receives one message with each recvmsg(2).
func rawFileSink(size int) error {
	p, oob := message(typeData, size, 0), make([]byte, unix.CmsgSpace(4))
	for count := uint32(0); ; {
		n, oobn, _, _, err := unix.Recvmsg(channel, p, oob, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		case n < imsg.HeaderSize:
			return fmt.Errorf("%d bytes instead of a message", n)
		}
		if oobn >= unix.CmsgLen(4) {
			unix.Close(rightOf(oob))
			count++
		}
		if binary.NativeEndian.Uint32(p) == typeSync {
			if err := writeAll(message(typeSync, 0, count)); err != nil {
				return err
			}
			count = 0
		}
	}
}

// rightOf returns the descriptor in a control message.
func rightOf(oob []byte) int { return int(int32(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):]))) }
