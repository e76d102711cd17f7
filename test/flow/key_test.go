package flow_test

import (
	"bytes"
	"hash/maphash"
	"reflect"
	"slices"

	"example.org/imsg/internal/flow"
)

// A key stands for a world and all that differ from it only in the numbers of
// callers with the same program, or of handlers.
type key [2]uint64

// A keyer makes keys.
type keyer struct {
	seeds [2]maphash.Seed
	like  [2][maxCallers]byte // the first caller with the same program
	buf   []byte
}

func newKeyer(s *setup) *keyer {
	k := &keyer{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i, all := range s.callers {
		for j := range all {
			for reflect.DeepEqual(all[j], all[k.like[i][j]]) == false {
				k.like[i][j]++
			}
		}
	}
	return k
}

// A local is a caller or a handler, without what it has to do with the others.
type local struct {
	bytes [24]byte
	index int
}

// key returns the key of w.
func (k *keyer) key(w *world) key {
	var rank [2][2*maxCallers + maxHandlers]byte // of the calls
	var procs [2][]local
	var room [2][maxCallers + maxHandlers]local
	for i := range w.ends {
		e := &w.ends[i]
		list := room[i][:0]
		for j := range e.callers {
			if e.callers[j].phase != gone {
				l := local{index: j}
				b := append(l.bytes[:0], 0, k.like[i][j])
				b = e.callers[j].append(b)
				b = e.calls[2*j].append(b)
				e.calls[2*j+1].append(b)
				list = append(list, l)
			}
		}
		for j := range e.handlers {
			if e.handlers[j].phase != gone {
				l := local{index: maxCallers + j}
				b := append(l.bytes[:0], 1)
				b = e.handlers[j].append(b)
				e.calls[2*maxCallers+j].append(b)
				list = append(list, l)
			}
		}
		slices.SortStableFunc(list, func(a, b local) int { return bytes.Compare(a.bytes[:], b.bytes[:]) })
		for n, l := range list {
			if l.index < maxCallers {
				rank[i][2*l.index], rank[i][2*l.index+1] = byte(2*n), byte(2*n+1)
			} else {
				rank[i][maxCallers+l.index] = byte(2 * n)
			}
		}
		procs[i] = list
	}
	b := k.buf[:0]
	for i := range w.ends {
		e := &w.ends[i]
		st := e.state
		b = append(b, byte(st.Queued), byte(st.Running), byte(st.Sending), byte(st.Calling), byte(st.Waiting),
			byte(st.Full), byte(st.Overfull), bit(st.TimedOut), bit(e.reading), byte(e.slots), byte(e.budget), byte(len(procs[i])))
		for _, l := range procs[i] {
			b = append(b, l.bytes[:]...)
			if l.index >= maxCallers {
				b = append(b, rank[1-i][e.handlers[l.index-maxCallers].req.call])
			}
		}
		for _, m := range e.queue[:e.queued] {
			b = append(b, byte(m.kind), byte(m.depth), byte(m.items), rank[1-i][m.call])
		}
		b = append(b, byte(w.wires[i].n))
		for _, m := range w.wires[i].msgs[:w.wires[i].n] {
			asks := i
			if m.kind == item || m.kind == last {
				asks = 1 - i
			}
			b = append(b, byte(m.kind), byte(m.depth), byte(m.items), rank[asks][m.call])
		}
	}
	k.buf = b
	return key{maphash.Bytes(k.seeds[0], b), maphash.Bytes(k.seeds[1], b)}
}

func (p *proc) append(b []byte) []byte {
	h := byte(0)
	if p.flow != (flow.Handler{}) {
		h = 1 // the rest follows from the phase
	}
	return append(b, byte(p.phase), byte(p.at), bit(p.body), bit(p.body1), h, byte(p.req.kind), byte(p.req.depth), byte(p.req.items))
}

func (c *call) append(b []byte) []byte {
	return append(b, bit(c.open)|bit(c.slot)<<1|bit(c.waiting)<<2|bit(c.failed)<<3, byte(c.held))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
