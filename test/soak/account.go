package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"example.org/imsg"
)

// A side sends on several lanes at a time, each a sequence of its own: order
// is promised only to who sends one message after the other.
const (
	laneForward = 6 // what the parent passes on from other workers
	laneFin     = 7 // one message: nothing comes after it
	laneCount   = 8
)

const (
	hasFile      = 1 << 3
	wantForward  = 1 << 4 // the parent shall pass it on to another worker
	wasForwarded = 1 << 5 // the payload begins with the header that it had
	maxDelta     = 1<<12 - 1
	fromMask     = 1<<14 - 1
)

// A stamp is what a header says about its message, so that messages of every
// size, also empty ones, can be accounted for: type and id hold these fields,
// and pid a checksum of it all.
type stamp struct {
	from  uint32 // the sender: 2*channel for the parent, 2*channel+1 for the worker
	lane  uint32
	flags uint32
	seq   uint32 // counts the tries on the lane, from 1
	last  uint32 // the last try before that was accepted: it must have arrived
}

func (s stamp) header(parts ...[]byte) imsg.Header {
	h := imsg.Header{Type: s.lane | s.flags | (s.seq-s.last)<<6 | (s.from&fromMask)<<18, ID: s.seq}
	h.PID = checksum(h, parts...)
	return h
}

func readStamp(h imsg.Header) stamp {
	return stamp{from: h.Type >> 18, lane: h.Type & 7, flags: h.Type & (hasFile | wantForward | wasForwarded),
		seq: h.ID, last: h.ID - h.Type>>6&maxDelta}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is never 0, which would mean the process's own id.
func checksum(h imsg.Header, parts ...[]byte) int32 {
	var p [8]byte
	binary.NativeEndian.PutUint32(p[:], h.Type)
	binary.NativeEndian.PutUint32(p[4:], h.ID)
	sum := crc32.Update(0, castagnoli, p[:])
	for _, part := range parts {
		sum = crc32.Update(sum, castagnoli, part)
	}
	return int32(max(sum, 1))
}

// A ledger is what one side knows. A worker's is in memory that it shares with
// the parent, which reads it after the worker was killed.
type ledger struct {
	lane                         [laneCount]laneLedger
	bytes, filesFailed, filesGot atomic.Uint64
	stats                        [2]counters // of the channel, at an orderly end: sent, received
}

type laneLedger struct {
	begun, told, got atomic.Uint64 // sequence numbers: tried, known to be sent, received
	nTold, nGot      atomic.Uint64 // how many
}

type counters struct{ messages, bytes, files uint64 }

// count is how many messages were received, and their size.
func (g *ledger) count() (c counters) {
	for i := range g.lane {
		c.messages += g.lane[i].nGot.Load()
	}
	return counters{c.messages, g.bytes.Load(), g.filesGot.Load()}
}

// seal keeps what the channel itself has counted.
func (g *ledger) seal(s imsg.Stats) {
	g.stats = [2]counters{{s.Sent.Messages, s.Sent.Bytes, s.Sent.Files}, {s.Received.Messages, s.Received.Bytes, s.Received.Files}}
}

// receive enters a message that has come from the sender from, if it is whole,
// is the sender's, has not come before and leaves no gap.
func (g *ledger) receive(from uint32, h imsg.Header, payload []byte) (stamp, error) {
	s := readStamp(h)
	n := &g.lane[s.lane]
	prev := n.got.Load()
	switch {
	case checksum(h, payload) != h.PID:
		return s, fmt.Errorf("%v of %d bytes: checksum %#x, want %#x", s, len(payload), checksum(h, payload), h.PID)
	case s.from != from&fromMask:
		return s, fmt.Errorf("%v: want one from %d", s, from&fromMask)
	case uint64(s.seq) <= prev:
		return s, fmt.Errorf("%v: comes behind %d", s, prev)
	case uint64(s.last) > prev:
		return s, fmt.Errorf("%v: comes behind %d, but %d was accepted: lost", s, prev, s.last)
	case s.flags&wasForwarded != 0:
		if err := checkInner(payload); err != nil {
			return s, fmt.Errorf("%v: %w", s, err)
		}
	}
	n.got.Store(uint64(s.seq))
	n.nGot.Add(1)
	g.bytes.Add(uint64(imsg.HeaderSize + len(payload)))
	return s, nil
}

func (s stamp) String() string {
	return fmt.Sprintf("message %d from %d, lane %d, flags %#x", s.seq, s.from, s.lane, s.flags)
}

// innerSize is the size of a forwarded message's first header in the payload.
const innerSize = 12

func putInner(h imsg.Header) (p [innerSize]byte) {
	binary.NativeEndian.PutUint32(p[0:], h.Type)
	binary.NativeEndian.PutUint32(p[4:], h.ID)
	binary.NativeEndian.PutUint32(p[8:], uint32(h.PID))
	return p
}

// checkInner checks a forwarded message end to end.
func checkInner(p []byte) error {
	if len(p) < innerSize {
		return fmt.Errorf("forwarded with %d bytes", len(p))
	}
	ne := binary.NativeEndian
	h := imsg.Header{Type: ne.Uint32(p), ID: ne.Uint32(p[4:]), PID: int32(ne.Uint32(p[8:]))}
	if sum := checksum(h, p[innerSize:]); sum != h.PID {
		return fmt.Errorf("forwarded %v: checksum %#x, want %#x", readStamp(h), sum, h.PID)
	}
	return nil
}

// audit compares the two ends of one direction when it is over. With all set,
// what the sender was told is sent must have been received.
func audit(from, to *ledger, all bool) (lost uint64, err error) {
	for i := range from.lane {
		f, t := &from.lane[i], &to.lane[i]
		begun, told, got := f.begun.Load(), f.told.Load(), t.got.Load()
		if got > begun {
			return 0, fmt.Errorf("lane %d: message %d received, %d tried", i, got, begun)
		}
		if all && got < told {
			lost += told - got
			err = fmt.Errorf("lane %d: message %d received, %d sent: lost", i, got, told)
		}
	}
	return lost, err
}

// auditStats compares what both channels have counted with what was received.
func auditStats(from, to *ledger) error {
	if sent, got, seen := from.stats[0], to.stats[1], to.count(); sent != got || got != seen {
		return fmt.Errorf("stats: sent %+v, received %+v, seen %+v", sent, got, seen)
	}
	return nil
}
