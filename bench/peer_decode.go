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
	return decoding(size, closeEach)
}

func closeEach(f *engine.Framer) (count int) {
	for m, ok := f.Next(); ok; m, ok = f.Next() {
		m.Close()
		count++
	}
	return count
}

// decoding cuts messages, which take closes and counts.
func decoding(size int, take func(f *engine.Framer) int) (step, error) {
	f, bytes, length := newFramer(), messagesOf(size), imsg.HeaderSize+size
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, len(bytes)/length)
			got, err := decode(f, bytes[:k*length], take)
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

// decode feeds p to f and counts the messages.
func decode(f *engine.Framer, p []byte, take func(f *engine.Framer) int) (count int, err error) {
	for len(p) > 0 {
		space := f.Buffer()
		k := copy(space, p)
		if err := f.Advance(k, -1, false, k == len(space)); err != nil {
			return count, err
		}
		p = p[k:]
		count += take(f)
	}
	return count, nil
}

// memcpyDecode only copies the bytes to where the framer wants them.
func memcpyDecode(size int) (step, error) {
	bytes, length, space := messagesOf(size), imsg.HeaderSize+size, make([]byte, bigRead)
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
