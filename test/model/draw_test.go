//go:build linux

package model_test

import (
	"math/rand/v2"
	"slices"

	"example.org/imsg"
)

// randomProgram returns the program of a seed, in which a raw peer sends two files
// at once only if so told.
func randomProgram(seed uint64, two bool) *program {
	rnd := rand.New(rand.NewPCG(seed, 4))
	one := func(n int) bool { return rnd.IntN(n) == 0 }
	p := &program{}
	dialect, small, blocking := drawDialect(rnd), one(2), one(16)
	for i := range p.ends {
		s := &p.ends[i]
		*s = setup{dialect: dialect, fdpass: !one(6), trace: one(8), small: small, busy: one(16)}
		switch k := rnd.IntN(20); {
		case k < 7:
			s.kind = connEnd
		case k < 10 && i == 1:
			s.kind = rawEnd
		}
		s.blocking = blocking && s.kind == bufEnd
		if one(4) {
			s.dialect = drawDialect(rnd)
		}
		pick := func(to *int, chance int, from ...int) {
			if one(chance) {
				*to = from[rnd.IntN(len(from))]
			}
		}
		pick(&s.queueBytes, 3, 1, 100, 1000, 5000, 40000)
		pick(&s.queueLen, 6, 1, 3, 10)
		pick(&s.queueFiles, 4, 16, 20) // fewer that wait to be claimed would depend on how reads are cut
		pick(&s.pending, 4, 1, 16, 32, 100, 5000)
		pick(&s.max, 8, 1, 40, 1000, 65519)
	}
	if rnd.IntN(4) > 0 { // agree on a maximum
		p.ends[1].max = p.ends[0].max
	}
	tame := one(3) // a raw peer that marks no message
	for range 40 + rnd.IntN(160) {
		o := drawOp(rnd, p)
		if o.code == opRawFrame && tame {
			if o.b = o.b % 2 * 3; one(4) {
				o.a = underMax
			}
		}
		if o.code == opRawFrame && o.b == 6 && !two {
			o.b = 1
		}
		p.ops = append(p.ops, o)
	}
	if one(3) {
		code := [...]opCode{opCloseEnd, opCloseEnd, opKill, opHangup}[rnd.IntN(4)]
		p.ops = append(p.ops, op{code: code, end: rnd.IntN(2)})
	}
	return p
}

func drawDialect(rnd *rand.Rand) imsg.Dialect {
	return [...]imsg.Dialect{imsg.Current, imsg.Current, imsg.Legacy, imsg.Auto}[rnd.IntN(4)]
}

// fitting are the kinds of ends that an operation makes sense for, if not
// for a Buf and a Conn.
var fitting = map[opCode][]endKind{
	opComposeBuffer: {bufEnd}, opForward: {bufEnd}, opRead: {bufEnd}, opAll: {bufEnd},
	opClear: {bufEnd}, opAllow: {bufEnd}, opSend: {connEnd}, opDeadline: {connEnd},
	opRawFrame: {rawEnd}, opRawWrite: {rawEnd}, opRawRead: {rawEnd},
	opCloseEnd: {bufEnd, connEnd, rawEnd}, opHangup: {bufEnd, connEnd, rawEnd},
	opGC: {bufEnd, connEnd, rawEnd},
}

func (o op) fits(kind endKind) bool {
	kinds, ok := fitting[o.code]
	if !ok {
		return kind != rawEnd
	}
	return slices.Contains(kinds, kind)
}

var totalWeight = func() (n int) {
	for _, o := range ops {
		n += o.weight
	}
	return n
}()

// drawOp draws one operation.
func drawOp(rnd *rand.Rand, p *program) op {
	if rnd.IntN(20000) == 0 {
		return op{code: opGC}
	}
	for {
		o := op{end: rnd.IntN(2)}
		k := rnd.IntN(totalWeight)
		for code := range ops {
			if k -= ops[code].weight; k < 0 {
				o.code = opCode(code)
				break
			}
		}
		if !o.fits(p.ends[o.end].kind) {
			continue
		}
		for i, arg := range [...]*int{&o.a, &o.b, &o.c} {
			*arg = drawArg(rnd, ops[o.code].args[i])
		}
		return o
	}
}

// drawArg draws an argument: mostly what does no harm.
func drawArg(rnd *rand.Rand, kind string) int {
	mostly := func(n int) int { // 0 in seven of eight
		if rnd.IntN(8) > 0 {
			return 0
		}
		return rnd.IntN(n)
	}
	switch kind {
	case "":
		return 0
	case "s":
		switch k := rnd.IntN(32); {
		case k < 2:
			return 0
		case k < 18:
			return rnd.IntN(64)
		case k < 25:
			return rnd.IntN(1000)
		case k < 28:
			return rnd.IntN(5000)
		case k < 31:
			return maxSize - 2*rnd.IntN(2)
		}
		return overMax
	case "f":
		switch k := rnd.IntN(40); {
		case k == 0:
			return 2
		case k < 12:
			return 1
		}
		return 0
	case "ctx":
		return [...]int{0, 0, 0, 1, 1, 1, 1, 2}[rnd.IntN(8)]
	case "kind":
		return [...]int{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 4, 4, 4, 6, 6, 6, 2, 3, 5}[rnd.IntN(20)]
	case "dialect", "from":
		return rnd.IntN(2)
	case "bytes":
		return [...]int{0, 0, 0, 0, 1, 15, 17, 1000, 1 << 20, 1 << 20}[rnd.IntN(10)]
	case "many":
		return [...]int{5, 15, 16, 17, 70, 1200}[rnd.IntN(6)]
	case "which", "how", "when":
		return rnd.IntN(3)
	case "both":
		return min(1, rnd.IntN(4))
	case "skip":
		return mostly(100)
	case "off":
		return mostly(3)
	case "n":
		return [...]int{0, 1, 7, 16, 40, 1000, 16368, 16369, 65519, 65520, 100000, 1 << 20}[rnd.IntN(12)]
	}
	return rnd.IntN(8)
}
