package tmux

import (
	"fmt"
	"strings"
	"testing"
)

// A recorder writes down what a controlReader finds.
type recorder struct {
	strings.Builder
	longest int
}

func (r *recorder) begin(g guard) { fmt.Fprintf(r, "begin %d\n", g.flags) }
func (r *recorder) text(line []byte, g guard, inReply bool) {
	r.longest = max(r.longest, len(line))
	fmt.Fprintf(r, "text %v %q\n", inReply, line)
}
func (r *recorder) end(g guard, failed bool) { fmt.Fprintf(r, "end %d %v\n", g.flags, failed) }
func (r *recorder) event(e Event, size int) {
	r.longest = max(r.longest, size)
	fmt.Fprintf(r, "event %T%q\n", e, fmt.Sprint(e))
}

func read(max int, pieces ...string) *recorder {
	rec := new(recorder)
	r := controlReader{handler: rec, max: max}
	for _, p := range pieces {
		r.write([]byte(p))
	}
	return rec
}

const conversationText = "%begin 1 2 0\n%end 1 2 0\n%session-changed $0 peer\n" +
	"%begin 1 3 1\nline\n%end 1 2 1\n%error 9 9 1\n%output %0 inside\n%begin 1 4 1\n\n%end 1 3 1\n" +
	"late\n%output %0 \\033\n%begin 1 5 1\nparse error\n%error 1 5 1\n%begin x\n"

const conversationWant = `begin 0
end 0 false
event tmux.SessionChanged"{$0 peer}"
begin 1
text true "line"
text true "%end 1 2 1"
text true "%error 9 9 1"
text true "%output %0 inside"
text true "%begin 1 4 1"
text true ""
end 1 false
text false "late"
event tmux.Output"{%0 [27]}"
begin 1
text true "parse error"
end 1 true
event tmux.Unknown"{[37 98 101 103 105 110 32 120]}"
`

// Only the guard with the numbers of the first ends a reply, and it does not
// matter where the bytes are cut.
func TestControlReader(t *testing.T) {
	if got := read(1000, conversationText).String(); got != conversationWant {
		t.Errorf("%s", got)
	}
	for i := range conversationText {
		if got := read(1000, conversationText[:i], conversationText[i:]).String(); got != conversationWant {
			t.Errorf("cut at %d: %s", i, got)
		}
	}
	if got := read(1000, strings.Split(conversationText, "")...).String(); got != conversationWant {
		t.Errorf("byte by byte: %s", got)
	}
}

// A line that is too long is cut, and the next one is whole.
func TestControlReaderLongLine(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, pieces := range [][]string{{long + "\nnext\n"}, {long[:50], long[50:], "\nnext\n"}, {long, "\n", "next\n"}} {
		if got, want := read(60, pieces...).String(), fmt.Sprintf("text false %q\ntext false \"next\"\n", long[:60]); got != want {
			t.Errorf("%q: %s", pieces, got)
		}
	}
}

func FuzzControlReader(f *testing.F) {
	f.Add([]byte(conversationText), 10)
	f.Add([]byte("%begin 1 1 1\n%begin 1 1 1\n%end 1 1 1\n%end 1 1 1\n"), 1)
	f.Add([]byte("%begin 18446744073709551616 1 1\n\x00\xff\n%output %0 \\77"), 3)
	f.Add([]byte("%begin  1 1\n%begin 1 1 1 1\n%begin -1 1 1\n"), 100)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		const limit = 64
		whole := read(limit, string(p))
		if whole.longest > limit {
			t.Errorf("a line of %d bytes", whole.longest)
		}
		cut = min(max(cut, 0), len(p))
		if got := read(limit, string(p[:cut]), string(p[cut:])); got.String() != whole.String() {
			t.Errorf("cut at %d: %s\nwant %s", cut, got, whole)
		}
	})
}
