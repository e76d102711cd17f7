package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"example.org/imsg"
)

// Every file that travels is the writing end of a pipe. Who sends it writes
// into it with which message it goes, and who receives it with which it came;
// the parent reads the other end. So it knows that each file came with its own
// message, where one was that did not arrive, and, by the end of file, that
// nobody has it any more, also when all who knew about it were killed.
type statement struct {
	kind, channel, typ, id uint32
}

const (
	saysSent = 1
	saysGot  = 2
)

// maxPipes is how many files travel at a time.
const maxPipes = 64

// say writes a statement, short enough for a pipe to keep it in one piece.
func say(f *os.File, kind, channel uint32, h imsg.Header) error {
	var p [16]byte
	for i, v := range [...]uint32{kind, channel, h.Type, h.ID} {
		binary.NativeEndian.PutUint32(p[4*i:], v)
	}
	_, err := f.Write(p[:])
	return err
}

func hear(r io.Reader) (s statement, err error) {
	var p [16]byte
	_, err = io.ReadFull(r, p[:])
	for i, v := range [...]*uint32{&s.kind, &s.channel, &s.typ, &s.id} {
		*v = binary.NativeEndian.Uint32(p[4*i:])
	}
	return s, err
}

func (s statement) String() string {
	return fmt.Sprintf("channel %d, %v", s.channel, readStamp(imsg.Header{Type: s.typ, ID: s.id}))
}

// pipes are all files that travel, and what became of those that have ended.
type pipes struct {
	fail func(error)
	wg   sync.WaitGroup

	made, sent, delivered, closed atomic.Int64

	mu     sync.Mutex
	closes map[uint32]uint64 // files that did not arrive, by channel
}

// create returns a new file to send, or nil when enough are under way.
func (ps *pipes) create() *os.File {
	if ps.made.Add(1) > maxPipes {
		ps.made.Add(-1)
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		ps.fail(err)
		return nil
	}
	ps.wg.Go(func() {
		defer r.Close()
		defer ps.made.Add(-1)
		if err := ps.watch(r); err != nil {
			ps.fail(fmt.Errorf("descriptor: %w", err))
		}
	})
	return w
}

// watch listens until nobody has the file any more.
func (ps *pipes) watch(r io.Reader) error {
	var way *statement // with which message it is under way
	for {
		s, err := hear(r)
		switch {
		case err == io.EOF:
			if way != nil {
				ps.closed.Add(1)
				ps.mu.Lock()
				ps.closes[way.channel]++
				ps.mu.Unlock()
			}
			return nil
		case err != nil:
			return err
		case s.kind == saysSent:
			if way != nil {
				return fmt.Errorf("sent with %v, but it did not arrive with %v", s, way)
			}
			ps.sent.Add(1)
			way = &s
		default:
			if way == nil || s.kind != saysGot || s.channel != way.channel || s.typ != way.typ || s.id != way.id {
				return fmt.Errorf("arrived with %v, but was sent with %v", s, way)
			}
			ps.delivered.Add(1)
			way = nil
		}
	}
}
