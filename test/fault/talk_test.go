//go:build imsgfault && linux

package fault_test

import (
	"fmt"
	"testing"

	"example.org/imsg"
)

// A talk is a scripted conversation.
type talk struct {
	name  string
	plain bool // without file passing
	steps func(r *conversation, a, b *side)
}

var talks = []talk{
	{"sizes", false, func(r *conversation, a, b *side) {
		for _, n := range []int{0, 1, 100, 16368} {
			r.send(a, n, false)
		}
		r.receive(b, 4)
		r.send(b, 100, false)
		r.receive(a, 1)
	}},
	{"plain", true, func(r *conversation, a, b *side) { // write, writev and read
		r.send(a, 1, false)
		for _, n := range []int{0, 1, 100, 16368, 1} {
			r.queue(a, n, false)
		}
		r.flush(a)
		r.receive(b, 6)
		r.send(b, 0, false)
		r.receive(a, 1)
	}},
	{"files", false, func(r *conversation, a, b *side) {
		for _, n := range []int{0, 1, 100, 16368} {
			r.send(a, n, true)
		}
		r.receive(b, 4)
		r.send(b, 100, true)
		r.receive(a, 1)
	}},
	{"file first", false, func(r *conversation, a, b *side) {
		r.queue(a, 100, true)
		for _, n := range []int{0, 1, 100} {
			r.queue(a, n, false)
		}
		r.flush(a)
		r.receive(b, 4)
	}},
	{"file last", false, func(r *conversation, a, b *side) {
		for _, n := range []int{0, 1, 100} {
			r.queue(a, n, false)
		}
		r.queue(a, 100, true)
		r.flush(a)
		r.receive(b, 4)
	}},
	{"many files", false, func(r *conversation, a, b *side) {
		for i, n := range []int{1, 0, 100, 0, 100, 1, 0} {
			r.queue(a, n, i != 3 && i != 5)
		}
		r.flush(a)
		r.receive(b, 7)
	}},
	{"both ways", false, func(r *conversation, a, b *side) {
		r.cred(a)
		r.send(a, 100, true)
		r.send(b, 1, false)
		r.queue(b, 0, true)
		r.receive(b, 1)
		r.flush(b)
		r.send(a, 0, false)
		r.receive(a, 2)
		r.receive(b, 1)
		r.cred(b)
	}},
	{"large", false, func(r *conversation, a, b *side) {
		r.queue(a, 16368, false)
		r.queue(a, 16368, true)
		r.queue(a, 1, false)
		r.queue(a, 16368, false)
		r.flush(a)
		r.receive(b, 4)
		r.send(a, 1, true)
		r.receive(b, 1)
	}},
	{"queued at close", false, func(r *conversation, a, b *side) {
		r.send(a, 1, true)
		r.queue(a, 100, true)
		r.queue(a, 0, true)
		r.receive(b, 1)
		r.close(a)
	}},
	{"unread at close", false, func(r *conversation, a, b *side) {
		for _, n := range []int{0, 100, 1} {
			r.send(a, n, true)
		}
		r.receive(b, 1)
		r.close(b)
	}},
	{"answer, then unread at close", false, func(r *conversation, a, b *side) {
		r.send(a, 1, true)
		r.send(a, 100, true)
		r.receive(b, 1)
		r.send(b, 0, true)
		r.send(b, 100, true)
		r.send(b, 1, true)
		r.receive(a, 1) // a knows that files come, so it asks for many
		r.close(b)
	}},
	{"peer gone", false, func(r *conversation, a, b *side) {
		r.send(a, 100, true)
		r.close(b)
		r.queue(a, 1, true)
		r.queue(a, 100, true)
		r.flush(a)
	}},
}

func talkCases(*testing.T) []testCase { return append(testCases(talks), autoCases()...) }

// lengthCases have a long message.
func lengthCases(*testing.T) []testCase {
	return testCases([]talk{{"long", false, func(r *conversation, a, b *side) {
		r.queue(a, 1, false)
		r.queue(a, 16368, true)
		r.queue(a, 0, true)
		r.flush(a)
		r.receive(b, 3)
	}}})
}

// testCases are conversations, in both dialects, of all programs.
func testCases(talks []talk) (cs []testCase) {
	for _, talk := range talks {
		for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
			for _, who := range [][2]string{{"conn", "conn"}, {"conn-deadline", "buf-loop"}, {"buf", "conn-deadline"}, {"buf-loop", "buf"}} {
				cfg := imsg.Config{Dialect: d, AllowFDPass: !talk.plain}
				cs = append(cs, testCase{fmt.Sprintf("%s/%v/%s-%s", talk.name, d, who[0], who[1]), func(w *world) tally {
					r := newConversation(w, who[0], who[1], &cfg, &cfg)
					talk.steps(r, r.a, r.b)
					return r.finish()
				}})
			}
		}
	}
	return cs
}

// autoCases is a side that finds out its peer's dialect.
func autoCases() (cs []testCase) {
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		for _, who := range []string{"conn", "buf"} {
			acfg, bcfg := imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}, imsg.Config{Dialect: d, AllowFDPass: true}
			cs = append(cs, testCase{fmt.Sprintf("auto/%v/%s", d, who), func(w *world) tally {
				r := newConversation(w, who, "conn-deadline", &acfg, &bcfg)
				r.send(r.b, 100, true)
				r.receive(r.a, 1)
				r.send(r.a, 1, true)
				r.receive(r.b, 1)
				return r.finish()
			}})
		}
	}
	return cs
}
