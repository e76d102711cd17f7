package main

import (
	"encoding/binary"
	"fmt"

	"example.org/imsg"
	engine "example.org/imsg/internal/stream"
)

// messagesOf returns 64 KiB of messages, as they arrive.
func messagesOf(size int) []byte {
	p := []byte(nil)
	for range batchOf(size, chunk) {
		p = append(p, message(typeData, size, 0)...)
	}
	return p
}

// newFramer cuts messages as a Conn does.
func newFramer() *engine.Framer {
	return &engine.Framer{HeaderSize: imsg.HeaderSize, PlainAt: 4, PlainMax: maxMessage, Header: func(h []byte) (int, bool, error) {
		word := binary.NativeEndian.Uint32(h[4:])
		n := int(word &^ (1 << 31))
		if n < imsg.HeaderSize || n > maxMessage {
			return 0, false, fmt.Errorf("a message of %d bytes", n)
		}
		return n, word>>31 != 0, nil
	}}
}

// framerDecode is what receiving costs without a socket.
func framerDecode(size int) (step, error) {
	f, bytes, length := newFramer(), messagesOf(size), imsg.HeaderSize+size
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, len(bytes)/length)
			got, err := decode(f, bytes[:k*length])
			if err != nil {
				return err
			}
			if got != k {
				return counted(uint32(got), k)
			}
			left -= k
		}
		return nil
	}, nil
}

// decode feeds p to f, and closes the messages and counts them.
func decode(f *engine.Framer, p []byte) (count int, err error) {
	for len(p) > 0 {
		space := f.Buffer()
		k := copy(space, p)
		if err := f.Advance(k, -1, false, k == len(space)); err != nil {
			return count, err
		}
		p = p[k:]
		for m, ok := f.Next(); ok; m, ok = f.Next() {
			m.Close()
			count++
		}
	}
	return count, nil
}

// memcpyDecode only copies the bytes to where the framer wants them.
func memcpyDecode(size int) (step, error) {
	f, bytes, length := newFramer(), messagesOf(size), imsg.HeaderSize+size
	for range 16 { // its memory grows with the load
		if _, err := decode(f, bytes); err != nil {
			return nil, err
		}
	}
	space := f.Buffer()
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, len(bytes)/length)
			for p := bytes[:k*length]; len(p) > 0; {
				p = p[copy(space, p):]
			}
			left -= k
		}
		return nil
	}, nil
}
