package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What a filter answers, as SECCOMP_RET_*.
const (
	retAllow  = 0x7fff0000
	retErrno  = 0x00050000 // with the errno in the low half
	retTrap   = 0x00030000
	retKill   = 0x80000000 // the process, not the thread
	retAbsent = retErrno | uint32(unix.ENOSYS)
)

// Offsets in struct seccomp_data; arg knows those of the arguments.
const (
	offNumber = 0
	offArch   = 4
)

// A filter is a program for one architecture, and the number of calls it allows.
type filter struct {
	program []unix.SockFilter
	calls   int
}

// A verdict is the answer to the system calls from a number on, up to the next one's: answer,
// or, if there are rules, what they say.
type verdict struct {
	from   uint32
	answer uint32
	rules  []choice
}

// A choice is the answer to a system call if all tests hold.
type choice struct {
	number uint32
	answer uint32
	all    []test
}

// denial returns the answer to forbidden calls.
func (p Policy) denial() uint32 {
	if p.Debug {
		return retTrap
	}
	return retErrno | uint32(unix.EPERM)
}

// denialName is denial in words.
func (p Policy) denialName() string {
	if p.Debug {
		return "trap"
	}
	return "EPERM"
}

// compile makes the filter for the process pid on goarch, which has to be one
// that is known. It finds a call in as few comparisons as there are bits in the number of
// calls: Linux runs the filter for each call that it knows of when it is loaded, to remember
// which are allowed whatever their arguments, and afterwards for the rest only.
func compile(w words, goarch string, pid int, denial uint32) (filter, error) {
	if !known(goarch) {
		return filter{}, fmt.Errorf("sandbox: no system call numbers for %s", goarch)
	}
	fatal := uint32(retKill)
	if denial == retTrap {
		fatal = retTrap
	}
	choices := make([]choice, 0, 256)
	add := func(answer uint32, all []test, names string) {
		for name := range strings.FieldsSeq(names) {
			if n, ok := numberOf(goarch, name); ok {
				choices = append(choices, choice{n, answer, all})
			}
		}
	}
	add(fatal, nil, fatalCalls)
	add(retAbsent, nil, absentCalls)
	for word := range strings.FieldsSeq(vocabulary + " " + portWords) {
		if w[word] {
			add(retAllow, nil, plainCalls(word))
		}
	}
	for _, r := range argRules(w, pid) {
		add(retAllow, r.all, r.call)
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(a.number, b.number) })

	f := filter{program: append(make([]unix.SockFilter, 0, 512), prologue(goarch)...)}
	verdicts := append(make([]verdict, 0, 256), verdict{answer: denial})
	set := func(v verdict) {
		last := &verdicts[len(verdicts)-1]
		if last.from == v.from {
			*last = v
		} else if last.rules != nil || v.rules != nil || last.answer != v.answer {
			verdicts = append(verdicts, v)
		}
	}
	for len(choices) > 0 {
		v := verdict{from: choices[0].number, answer: choices[0].answer}
		n := 1
		for n < len(choices) && choices[n].number == v.from {
			n++
		}
		if v.answer == retAllow {
			f.calls++
		}
		if !slices.ContainsFunc(choices[:n], func(c choice) bool { return len(c.all) == 0 }) {
			v.rules = choices[:n]
		}
		set(v)
		set(verdict{from: v.from + 1, answer: denial})
		choices = choices[n:]
	}
	if goarch == "amd64" {
		const x32 = 0x40000000
		set(verdict{from: x32, answer: retKill})
	}
	f.decide(verdicts, denial)
	return f, nil
}

// prologue ends a process that calls in the convention of another architecture,
// where the same numbers mean other calls, and leaves the number in the register.
func prologue(goarch string) []unix.SockFilter {
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if goarch == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	return []unix.SockFilter{
		{Code: loadWord, K: offArch},
		{Code: jumpEqual, K: arch, Jt: 1},
		{Code: returns, K: retKill},
		{Code: loadWord, K: offNumber},
	}
}

// The instructions that a filter is made of.
const (
	loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jump      = unix.BPF_JMP | unix.BPF_JA
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpFrom  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K // greater or equal
	returns   = unix.BPF_RET | unix.BPF_K
)

// decide adds the code that finds the verdict on the number in the register, and
// answers.
func (f *filter) decide(verdicts []verdict, denial uint32) {
	half := len(verdicts) / 2
	if half == 0 {
		f.answer(verdicts[0], denial)
		return
	}
	at := len(f.program)
	f.program = append(f.program, unix.SockFilter{Code: jumpFrom, K: verdicts[half].from, Jf: 1}, unix.SockFilter{Code: jump})
	f.decide(verdicts[:half], denial)
	if n := len(f.program) - (at + 2); n > 0xff {
		f.program[at+1].K = uint32(n)
	} else { // near enough for a jump with a condition
		f.program[at].Jt, f.program[at].Jf = uint8(n), 0
		f.program = slices.Delete(f.program, at+1, at+2)
	}
	f.decide(verdicts[half:], denial)
}

// answer tries one rule after the other.
func (f *filter) answer(v verdict, denial uint32) {
	for _, c := range v.rules {
		end := len(f.program) + 1 // of this rule, behind its answer
		for _, t := range c.all {
			end += t.size()
		}
		for _, t := range c.all {
			f.program = append(f.program, unix.SockFilter{Code: loadWord, K: t.offset})
			if t.mask != all32 {
				f.program = append(f.program, unix.SockFilter{Code: and, K: t.mask})
			}
			f.program = append(f.program, unix.SockFilter{Code: jumpEqual, K: t.want, Jf: uint8(end - len(f.program) - 1)})
		}
		f.program = append(f.program, unix.SockFilter{Code: returns, K: c.answer})
	}
	if v.rules != nil {
		v.answer = denial
	}
	f.program = append(f.program, unix.SockFilter{Code: returns, K: v.answer})
}

// size is the number of instructions of a test.
func (t test) size() int {
	if t.mask == all32 {
		return 2
	}
	return 3
}
