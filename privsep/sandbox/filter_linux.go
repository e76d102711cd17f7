package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/bpf"
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
	program []bpf.Instruction
	calls   int
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
// of numbersFor. It is a plain list of comparisons: Linux remembers which calls
// are allowed whatever their arguments, and runs the filter only for the rest.
func compile(w words, goarch string, pid int, denial uint32) (filter, error) {
	number := numbersFor(goarch)
	if number == nil {
		return filter{}, fmt.Errorf("sandbox: no system call numbers for %s", goarch)
	}
	fatal := uint32(retKill)
	if denial == retTrap {
		fatal = retTrap
	}
	f := filter{program: append(make([]bpf.Instruction, 0, 512), prologue(goarch)...)}
	for name := range strings.FieldsSeq(fatalCalls) {
		f.when(number, name, bpf.RetConstant{Val: fatal})
	}
	for name := range strings.FieldsSeq(absentCalls) {
		f.when(number, name, bpf.RetConstant{Val: retAbsent})
	}

	allowed := map[string][]rule{} // an empty list: always
	var order []string
	for word := range strings.FieldsSeq(vocabulary + " " + portWords) {
		if !w[word] {
			continue
		}
		for name := range strings.FieldsSeq(plainCalls(word)) {
			if !slices.Contains(order, name) {
				order = append(order, name)
			}
			allowed[name] = nil
		}
	}
	for _, r := range argRules(w, pid) {
		rules, known := allowed[r.call]
		switch {
		case !known:
			order = append(order, r.call)
			allowed[r.call] = []rule{r}
		case len(rules) == 0 || len(r.all) == 0:
			allowed[r.call] = nil
		default:
			allowed[r.call] = append(rules, r)
		}
	}
	for _, name := range order {
		if f.when(number, name, body(allowed[name], denial)...) {
			f.calls++
		}
	}
	f.program = append(f.program, bpf.RetConstant{Val: denial})
	return f, nil
}

// prologue ends a process that calls in the convention of another architecture,
// where the same numbers mean other calls, and leaves the number in the register.
func prologue(goarch string) []bpf.Instruction {
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if goarch == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		bpf.RetConstant{Val: retKill},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	if goarch == "amd64" {
		const x32 = 0x40000000
		code = append(code,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32, SkipFalse: 1},
			bpf.RetConstant{Val: retKill})
	}
	return code
}

// when adds code, which has to end in a return, for one call. It reports
// whether the call exists.
func (f *filter) when(number map[string]uint32, name string, code ...bpf.Instruction) bool {
	n, ok := number[name]
	if ok {
		f.program = append(f.program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(code))})
		f.program = append(f.program, code...)
	}
	return ok
}

// body tries one rule after the other.
func body(rules []rule, denial uint32) []bpf.Instruction {
	if len(rules) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: retAllow}}
	}
	var code []bpf.Instruction
	for _, r := range rules {
		rest := 1 // instructions up to the end of this rule
		var reversed [][]bpf.Instruction
		for _, t := range slices.Backward(r.all) {
			step := []bpf.Instruction{bpf.LoadAbsolute{Off: t.offset, Size: 4}}
			if t.mask != all32 {
				step = append(step, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: t.mask})
			}
			step = append(step, bpf.JumpIf{Cond: bpf.JumpEqual, Val: t.want, SkipFalse: uint8(rest)})
			rest += len(step)
			reversed = append(reversed, step)
		}
		for _, step := range slices.Backward(reversed) {
			code = append(code, step...)
		}
		code = append(code, bpf.RetConstant{Val: retAllow})
	}
	return append(code, bpf.RetConstant{Val: denial})
}
