package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"

	"example.org/imsg"
)

// An outcome is what a sender was told about a message.
type outcome int

const (
	failed   outcome = iota // it may have arrived nevertheless, once
	accepted                // it arrives before what is accepted later
	told                    // it is sent, and so is all that was accepted before
)

// A put gives one message to a channel. It owns f. The error is one that ends
// the direction.
type put func(h imsg.Header, f *os.File, parts [][]byte) (outcome, error)

// An outbox accounts for what one side sends.
type outbox struct {
	order *order
	side  int
	book  *ledger
	lanes [laneCount]lane
}

type lane struct {
	mu            sync.Mutex
	seq, accepted uint32
	waiting       uint64 // accepted, and nobody has said that they are sent
	ended         bool
}

func (o *outbox) from() uint32 { return 2*o.order.channel + uint32(o.side) }

// rand returns a source for what one goroutine of this side does.
func (o *outbox) rand(what uint64) *rand.Rand {
	return rand.New(rand.NewPCG(o.order.seed, uint64(o.from())<<8|what))
}

// post sends one message on a lane. It owns f. ErrClosed says that the lane
// has ended.
func (o *outbox) post(no, flags uint32, f *os.File, put put, parts ...[]byte) error {
	ln, book := &o.lanes[no], &o.book.lane[no]
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.ended {
		f.Close()
		return net.ErrClosed
	}
	if ln.seq-ln.accepted == maxDelta {
		return fmt.Errorf("lane %d: nothing sent since message %d, now %d", no, ln.accepted, ln.seq)
	}
	if f != nil {
		flags |= hasFile
	}
	ln.seq++
	h := stamp{o.from(), no, flags, ln.seq, ln.accepted}.header(parts...)
	book.begun.Store(uint64(ln.seq))
	if f != nil {
		if err := say(f, saysSent, o.order.channel, h); err != nil {
			return fmt.Errorf("cannot write to the pipe that goes with lane %d, message %d: %v", no, ln.seq, err)
		}
	}
	out, err := put(h, f, parts)
	if out == failed && f != nil {
		o.book.filesFailed.Add(1)
	}
	if out >= accepted {
		ln.accepted = ln.seq
		ln.waiting++
	}
	if out == told {
		o.told(no)
	}
	return err
}

// told enters that everything accepted on a lane is sent. ln.mu is held, or
// there is one goroutine only.
func (o *outbox) told(no uint32) {
	ln, book := &o.lanes[no], &o.book.lane[no]
	book.nTold.Add(ln.waiting)
	book.told.Store(uint64(ln.accepted))
	ln.waiting = 0
}

// end lets nothing more be sent on a lane.
func (o *outbox) end(no uint32) {
	ln := &o.lanes[no]
	ln.mu.Lock()
	ln.ended = true
	ln.mu.Unlock()
}

// transient reports whether err ends one call only.
func transient(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, imsg.ErrQueueFull)
}

// block is what payloads are cut from.
var block = func() []byte {
	rnd := rand.NewChaCha8([32]byte{})
	p := make([]byte, 300_000)
	rnd.Read(p)
	return p
}()

// payload is mostly small, and sometimes of every size up to the maximum.
func (o *outbox) payload(rnd *rand.Rand) (a, b []byte) {
	n := 0
	switch most := int(o.order.max); rnd.IntN(20) {
	case 0:
	case 1:
		n = most
	case 2, 3:
		n = rnd.IntN(most + 1)
	default:
		n = rnd.IntN(600)
	}
	at := rnd.IntN(len(block) - n)
	cut := rnd.IntN(n + 1)
	return block[at : at+cut], block[at+cut : at+n]
}
