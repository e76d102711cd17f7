package main

import (
	"encoding/binary"
	"fmt"
	"io"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// rawStream is the bare loop, the limit for whoever has messages with headers:
// it encodes into one buffer, as large as a batch of the others, and writes it
// whole.
func rawStream(size int) (step, error)      { return rawBatches(size, batch) }
func rawSmallStream(size int) (step, error) { return rawBatches(size, chunk) }

func rawBatches(size, bytes int) (step, error) {
	length, many, payload := imsg.HeaderSize+size, batchOf(size, bytes), make([]byte, size)
	buf := make([]byte, many*length)
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, many)
			p := buf[:k*length]
			for q := p; len(q) > 0; q = q[length:] {
				putHeader(q, typeData, uint32(length), 0)
				copy(q[imsg.HeaderSize:length], payload)
			}
			if err := writeAll(p); err != nil {
				return err
			}
			left -= k
		}
		return rawSync(n)
	}, nil
}

func rawSend(size int) (step, error) {
	return rawOneByOne(size, writeAll)
}

func rawSendmsg(size int) (step, error) {
	return rawOneByOne(size, func(p []byte) error { return sendFile(p, nil) })
}

// rawOneByOne hands every message to write.
func rawOneByOne(size int, write func([]byte) error) (step, error) {
	p, payload := message(typeData, size, 0), make([]byte, size)
	return func(n int) error {
		for range n {
			putHeader(p, typeData, uint32(len(p)), 0)
			copy(p[imsg.HeaderSize:], payload)
			if err := write(p); err != nil {
				return err
			}
		}
		return rawSync(n)
	}, nil
}

// rawSync waits until the server has got all n messages.
func rawSync(n int) error {
	p := message(typeSync, 0, 0)
	if err := writeAll(p); err != nil {
		return err
	}
	if err := readFull(p); err != nil {
		return err
	}
	return counted(binary.NativeEndian.Uint32(p[8:]), n)
}

// rawSink is the other side of the bare loop: it reads as much at a time as a
// Buf and parses in place.
func rawSink(int) error      { return rawCount(bigRead) }
func rawSmallSink(int) error { return rawCount(chunk) }

func rawCount(bytes int) error {
	buf := make([]byte, bytes+maxMessage)
	have, count := 0, uint32(0)
	for {
		n, err := read(buf[have : have+bytes])
		if err != nil {
			return ended(err)
		}
		p := buf[:have+n]
		for len(p) >= imsg.HeaderSize {
			length := binary.NativeEndian.Uint32(p[4:])
			if length < imsg.HeaderSize || length > maxMessage {
				return fmt.Errorf("a message of %d bytes", length)
			}
			if len(p) < int(length) {
				break
			}
			count++
			if binary.NativeEndian.Uint32(p) == typeSync {
				if err := writeAll(message(typeSync, 0, count-1)); err != nil {
					return err
				}
				count = 0
			}
			p = p[length:]
		}
		have = copy(buf, p)
	}
}

// rawChunks moves bytes, 16384 for every operation, and nothing else. A turn
// begins with the number of operations.
func rawChunks(int) (step, error) {
	buf := make([]byte, chunk)
	return func(n int) error {
		if err := writeAll(message(typeData, 0, uint32(n))); err != nil {
			return err
		}
		for left := n * maxMessage; left > 0; {
			k := min(left, chunk)
			if err := writeAll(buf[:k]); err != nil {
				return err
			}
			left -= k
		}
		return readFull(make([]byte, imsg.HeaderSize))
	}, nil
}

func rawChunksSink(int) error {
	buf, head := make([]byte, chunk), make([]byte, imsg.HeaderSize)
	for {
		if err := readFull(head); err != nil {
			return ended(err)
		}
		for left := int(binary.NativeEndian.Uint32(head[8:])) * maxMessage; left > 0; {
			n, err := read(buf[:min(left, chunk)])
			if err != nil {
				return err
			}
			left -= n
		}
		if err := writeAll(head); err != nil {
			return err
		}
	}
}

// rawPing uses a thread that waits in read(2).
func rawPing(size int) (step, error) { return rawRoundTrips(size, readFull) }
func rawEcho(size int) error         { return rawAnswer(size, readFull) }

func rawRoundTrips(size int, get func([]byte) error) (step, error) {
	p := message(typeData, size, 0)
	return func(n int) error {
		for range n {
			if err := writeAll(p); err != nil {
				return err
			}
			if err := get(p); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func rawAnswer(size int, get func([]byte) error) error {
	p := message(typeData, size, 0)
	for {
		if err := get(p); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := writeAll(p); err != nil {
			return err
		}
	}
}

// sendFile sends p, with a control message if rights is not nil.
func sendFile(p, rights []byte) error {
	for {
		n, err := unix.SendmsgN(channel, p, rights, nil, 0)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	}
}
