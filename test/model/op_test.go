//go:build linux

package model_test

import (
	"fmt"
	"strings"

	"example.org/imsg"
)

// A endKind is what one end of a channel is.
type endKind int

const (
	bufEnd  endKind = iota
	connEnd         // with operations that do not wait
	rawEnd          // a bare socket, which may write anything
)

// A setup is how one end begins.
type setup struct {
	kind       endKind
	dialect    imsg.Dialect
	fdpass     bool
	trace      bool
	queueBytes int // limits; 0: the default
	queueLen   int
	queueFiles int
	pending    int
	max        int // payload; 0: the default
	small      bool
	blocking   bool
	busy       bool
}

func (s setup) String() string {
	if s.kind == rawEnd {
		return "raw socket"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v", [...]string{"Buf", "Conn"}[s.kind], s.dialect)
	flag := func(on bool, name string) {
		if on {
			b.WriteString(", " + name)
		}
	}
	number := func(n int, name string) { flag(n != 0, fmt.Sprint(name, " ", n)) }
	flag(s.fdpass, "AllowFDPass")
	flag(s.trace, "Trace")
	number(s.queueBytes, "MaxQueueBytes")
	number(s.queueLen, "MaxQueueMessages")
	number(s.queueFiles, "MaxQueueFiles")
	number(s.pending, "MaxPendingBytes")
	number(s.max, "SetMaxSize")
	flag(s.small, "small SO_SNDBUF")
	flag(s.blocking, "blocking socket")
	flag(s.busy, "BusyPoll")
	return b.String()
}

// A op is one operation on one end. What cannot be done when its turn has
// come is left out, so any part of a program is a program.
type op struct {
	code    opCode
	end     int // 0 or 1
	a, b, c int
}

type opCode int

const (
	opCompose opCode = iota // Compose or Queue
	opBurst
	opComposeBuffer
	opSend
	opForward
	opCreate
	opAdd
	opBuilderMax
	opBuilderFile
	opCommit
	opDiscard
	opWrite
	opFlush
	opRead
	opGet // or Receive
	opAll
	opGetBytes
	opGetExact
	opGetCString
	opGetView
	opTakeFile
	opTakeFD
	opClose
	opStale
	opPush
	opPop
	opPushShort
	opQueueClear
	opClear
	opSetMax
	opAllow
	opDeadline
	opCloseEnd
	opKill
	opHangup
	opRawFrame
	opRawWrite
	opRawRead
	opGC
)

// ops says how often each operation is drawn and how it is printed: s is
// a size, n a number, f a file, i an index, the others are words.
var ops = [...]struct {
	weight int
	name   string
	args   [3]string
}{
	opCompose:       {170, "Compose", [3]string{"s", "f", ""}},
	opBurst:         {2, "ComposeMany", [3]string{"many", "s", "f"}},
	opComposeBuffer: {30, "ComposeBuffer", [3]string{"s", "f", "skip"}},
	opSend:          {80, "Send", [3]string{"s", "f", "ctx"}},
	opForward:       {20, "Forward", [3]string{"i", "from", ""}},
	opCreate:        {25, "Create", [3]string{"s", "", ""}},
	opAdd:           {40, "Builder.Add", [3]string{"i", "s", "how"}},
	opBuilderMax:    {5, "Builder.SetMaxSize", [3]string{"i", "s", ""}},
	opBuilderFile:   {10, "Builder.SetFile", [3]string{"i", "f", ""}},
	opCommit:        {25, "Commit", [3]string{"i", "", ""}},
	opDiscard:       {4, "Discard", [3]string{"i", "", ""}},
	opWrite:         {130, "Write", [3]string{"", "", ""}},
	opFlush:         {40, "Flush", [3]string{"ctx", "", ""}},
	opRead:          {130, "ReadSocket", [3]string{"", "", ""}},
	opGet:           {150, "Get", [3]string{"ctx", "", ""}},
	opAll:           {10, "All", [3]string{"n", "", ""}},
	opGetBytes:      {20, "Message.Get", [3]string{"i", "s", ""}},
	opGetExact:      {10, "Message.GetExact", [3]string{"i", "off", ""}},
	opGetCString:    {10, "Message.GetCString", [3]string{"i", "s", ""}},
	opGetView:       {10, "Message.GetView", [3]string{"i", "", ""}},
	opTakeFile:      {20, "TakeFile", [3]string{"i", "", ""}},
	opTakeFD:        {20, "TakeFD", [3]string{"i", "", ""}},
	opClose:         {80, "Message.Close", [3]string{"i", "", ""}},
	opStale:         {20, "UseAfterClose", [3]string{"i", "", ""}},
	opPush:          {20, "Push", [3]string{"i", "", ""}},
	opPop:           {15, "Pop", [3]string{"", "", ""}},
	opPushShort:     {1, "PushShortBuffer", [3]string{"", "", ""}},
	opQueueClear:    {1, "Queue.Clear", [3]string{"", "", ""}},
	opClear:         {2, "Clear", [3]string{"", "", ""}},
	opSetMax:        {4, "SetMaxSize", [3]string{"n", "both", ""}},
	opAllow:         {1, "AllowFDPass", [3]string{"", "", ""}},
	opDeadline:      {10, "SetDeadline", [3]string{"which", "when", ""}},
	opCloseEnd:      {1, "CloseEnd", [3]string{"", "", ""}},
	opKill:          {1, "Kill", [3]string{"", "", ""}},
	opHangup:        {1, "Hangup", [3]string{"", "", ""}},
	opRawFrame:      {120, "RawFrame", [3]string{"s", "kind", "dialect"}},
	opRawWrite:      {60, "RawWrite", [3]string{"bytes", "", ""}},
	opRawRead:       {60, "RawRead", [3]string{"bytes", "", ""}},
	opGC:            {0, "GC", [3]string{"", "", ""}},
}

// words are what arguments that are neither numbers nor sizes mean.
var words = map[string][]string{
	"f":       {"", "file", "closed file"},
	"ctx":     {"background if it need not wait", "gives up when it would wait", "cancelled"},
	"how":     {"Add", "AddZero", "AddNet32"},
	"which":   {"both", "read", "write"},
	"when":    {"never", "past", "far"},
	"from":    {"own", "the peer's"},
	"both":    {"", "both ends"},
	"kind":    {"plain", "file", "file missing", "file unmarked", "old batch", "bad length", "two files"},
	"dialect": {"current", "legacy"},
}

// Sizes of payloads that depend on the limit at the time.
const (
	maxSize  = -1 - iota
	overMax  // one more
	underMax // one less
)

// String prints the operation for people.
func (o op) String() string {
	info := &ops[o.code]
	var args []string
	for i, v := range [...]int{o.a, o.b, o.c} {
		switch kind := info.args[i]; {
		case kind == "":
		case kind == "s" && v < 0:
			args = append(args, [...]string{"max", "max+1", "max-1"}[-1-v])
		case words[kind] != nil:
			if w := words[kind][v]; w != "" {
				args = append(args, w)
			}
		default:
			args = append(args, fmt.Sprint(v))
		}
	}
	return fmt.Sprintf("%c.%s(%s)", 'a'+o.end, info.name, strings.Join(args, ", "))
}

// A program is two ends and what is done to them.
type program struct {
	ends [2]setup
	ops  []op
}

func (p *program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "a: %v\nb: %v\n", p.ends[0], p.ends[1])
	for i, o := range p.ops {
		fmt.Fprintf(&b, "%3d %v\n", i, o)
	}
	fmt.Fprintf(&b, "%3d write, read and take everything, then close\n", len(p.ops))
	return b.String()
}
