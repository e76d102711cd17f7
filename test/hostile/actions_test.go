package hostile_test

import (
	"encoding/binary"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// actions are what an attacker does, each as likely as its weight.
var actions = []struct {
	weight int
	do     func(*attacker)
}{
	{10, (*attacker).honest},
	{3, (*attacker).several},
	{2, (*attacker).garbage},
	{4, (*attacker).boundary},
	{4, (*attacker).cut},
	{2, (*attacker).drip},
	{3, (*attacker).manyFiles},
	{3, (*attacker).unclaimed},
	{2, (*attacker).unkept},
	{1, (*attacker).outOfBand},
	{1, (*attacker).empty},
	{3, func(a *attacker) { a.read(len(a.buf)) }},
	{1, func(a *attacker) { a.read(1) }},
	{1, (*attacker).shutdown},
	{1, (*attacker).flood},
}

// act does something, or several things.
func (a *attacker) act() {
	total := 0
	for _, w := range actions {
		total += w.weight
	}
	k := a.rnd.IntN(total)
	for _, w := range actions {
		if k -= w.weight; k < 0 {
			w.do(a)
			return
		}
	}
}

// size is a payload's, one that the target accepts.
func (a *attacker) size() int {
	most := min(a.limit-imsg.HeaderSize, 40_000)
	switch a.rnd.IntN(8) {
	case 0:
		return 0
	case 1:
		return most
	case 2:
		return a.rnd.IntN(most + 1)
	}
	return a.rnd.IntN(min(most, 200) + 1)
}

// message is one in the dialect that the attacker speaks.
func (a *attacker) message(n int, mark bool) []byte {
	a.typ++
	return testutil.Frame(a.d, a.typ, n, mark)
}

// parcel is pack for the attacker's usual mix; nil if there is nothing to pack.
func (a *attacker) parcel(n int) *parcel {
	if a.fd < 0 {
		return nil
	}
	p, err := a.pack(min(n, a.most))
	if err != nil {
		return nil // no descriptor is left: the attacker's own fault
	}
	return p
}

// honest sends a message as a channel would.
func (a *attacker) honest() {
	if a.rnd.IntN(2) == 0 {
		a.send(a.message(a.size(), false), nil, 0)
		return
	}
	a.send(a.message(a.size(), true), a.parcel(1), 0)
}

// several sends messages at once, the last one with a file, as old writers do.
func (a *attacker) several() {
	var p []byte
	for range 1 + a.rnd.IntN(5) {
		if len(p) < 20_000 {
			p = append(p, a.message(a.size(), false)...)
		}
	}
	if a.rnd.IntN(2) == 0 {
		a.send(p, nil, 0)
		return
	}
	a.send(append(p, a.message(0, true)...), a.parcel(1), 0)
}

// garbage sends random bytes, perhaps behind a good message.
func (a *attacker) garbage() {
	var p []byte
	if a.rnd.IntN(2) == 0 {
		p = a.message(a.size(), false)
	}
	n := a.rnd.IntN(64)
	if a.rnd.IntN(4) == 0 {
		n = a.rnd.IntN(5000)
	}
	for range n {
		p = append(p, byte(a.rnd.Uint32()))
	}
	a.send(p, nil, 0)
}

// boundary announces a length that is just possible, or just not.
func (a *attacker) boundary() {
	p := testutil.RawHeader(a.d, a.typ+1, 0, false)
	a.typ++
	lengths := []uint32{0, 15, 16, 17, uint32(a.limit) - 1, uint32(a.limit), uint32(a.limit) + 1, 65535, 65536, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	n := lengths[a.rnd.IntN(len(lengths))]
	if a.d == imsg.Legacy && a.rnd.IntN(4) > 0 {
		binary.NativeEndian.PutUint16(p[4:], uint16(n))
		binary.NativeEndian.PutUint16(p[6:], []uint16{0, 1, 2, 1 << 15, 1<<16 - 1}[a.rnd.IntN(5)])
	} else {
		binary.NativeEndian.PutUint32(p[4:], n|uint32(a.rnd.IntN(4)/3)<<31)
	}
	if rest := int64(n&^(1<<31)) - imsg.HeaderSize; rest > 0 {
		switch a.rnd.IntN(3) {
		case 0:
			p = append(p, testutil.Pattern(n, int(min(rest, 70_000)))...)
		case 1:
			p = append(p, testutil.Pattern(n, int(min(rest-1, 70_000)))...)
		}
	}
	var b *parcel
	if a.rnd.IntN(4) == 0 {
		b = a.parcel(1)
	}
	a.send(p, b, 0)
}

// cut sends a message in two pieces, with files anywhere, or only the first.
func (a *attacker) cut() {
	p := a.message(a.size(), a.rnd.IntN(2) == 0)
	k := a.rnd.IntN(len(p) + 1)
	if a.rnd.IntN(2) == 0 {
		k = a.rnd.IntN(imsg.HeaderSize + 1)
	}
	for i, piece := range [][]byte{p[:k], p[k:]} {
		if len(piece) == 0 || i == 1 && a.rnd.IntN(4) == 0 {
			continue
		}
		var b *parcel
		if a.rnd.IntN(3) == 0 {
			b = a.parcel(1)
		}
		a.send(piece, b, 0)
	}
}

// drip sends a message byte by byte, and perhaps files with every byte.
func (a *attacker) drip() {
	p := a.message(a.rnd.IntN(min(a.limit-imsg.HeaderSize, 12)+1), a.rnd.IntN(2) == 0)
	files := a.rnd.IntN(4)
	for i := range p {
		var b *parcel
		if files == 0 || files == 1 && i == 0 {
			b = a.parcel(1 + a.rnd.IntN(2))
		}
		a.send(p[i:i+1], b, 0)
	}
}

// manyFiles sends more than one file at once, up to more than a kernel takes.
func (a *attacker) manyFiles() {
	n := []int{2, 3, 4, 8, 64, 252, 253, 254}[a.rnd.IntN(8)]
	a.send(a.message(a.size(), a.rnd.IntN(2) == 0), a.parcel(n), 0)
}

// unclaimed sends files with messages that do not want any.
func (a *attacker) unclaimed() {
	for range 1 + a.rnd.IntN(8)*a.rnd.IntN(3) {
		a.send(a.message(a.rnd.IntN(min(a.limit-imsg.HeaderSize, 20)+1), false), a.parcel(1), 0)
	}
}

// unkept promises a file and sends none.
func (a *attacker) unkept() { a.send(a.message(a.size(), true), nil, 0) }

// outOfBand sends a byte, or a few, of which the last one is not in the stream.
func (a *attacker) outOfBand() {
	var b *parcel
	if a.rnd.IntN(4) == 0 {
		b = a.parcel(1)
	}
	n := 1
	if a.rnd.IntN(2) == 0 {
		n = 17
	}
	a.send(a.message(1, false)[:n], b, unix.MSG_OOB)
}

// empty sends descriptors without any byte, and no byte at all.
func (a *attacker) empty() {
	if a.fd < 0 {
		return
	}
	if b := a.parcel(3); b != nil {
		if sendEmpty(a.fd, b.fds...) == nil {
			a.passed += len(b.fds)
		}
		if b.close {
			a.closeFD(b.fds[0])
		}
	}
	unix.Write(a.fd, nil)
	a.step()
}

func (a *attacker) shutdown() {
	if a.fd >= 0 && a.rnd.IntN(2) == 0 {
		unix.Shutdown(a.fd, []int{unix.SHUT_RD, unix.SHUT_WR, unix.SHUT_RDWR}[a.rnd.IntN(3)])
		a.step()
	}
}

// flood sends until the socket takes no more.
func (a *attacker) flood() {
	if a.rnd.IntN(8) > 0 {
		return
	}
	p := a.message(min(a.limit-imsg.HeaderSize, 1+a.rnd.IntN(3000)), false)
	for range 100 {
		a.send(p, nil, 0)
	}
}
