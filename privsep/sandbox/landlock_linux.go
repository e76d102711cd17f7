package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// A landlockKernel is what the kernel knows of Landlock.
type landlockKernel struct {
	abi    int    // 0: nothing
	errata int    // a bit for each bug that is mended
	why    string // there is none
}

func thisLandlock() landlockKernel {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return landlockKernel{why: fmt.Sprintf("not in this kernel: %v", err)}
	}
	if withCgo && abi < 8 {
		f, err := os.Open(fmt.Sprintf("/proc/%d/task", os.Getpid()))
		if err != nil {
			return landlockKernel{why: fmt.Sprintf("ABI %d needs /proc in a cgo program: %v", abi, err)}
		}
		f.Close()
	}
	errata, err := ll.LandlockGetErrata()
	if err != nil {
		errata = 0 // older kernels cannot tell
	}
	return landlockKernel{abi: abi, errata: errata}
}

// A ruleset is what is asked of Landlock, or what a kernel can do of that.
type ruleset struct {
	files  landlock.AccessFSSet
	ports  landlock.AccessNetSet
	scopes landlock.ScopedSet
}

// asked returns what the policy forbids as far as Landlock has a word for it.
func asked(p Policy, w words) ruleset {
	var r ruleset
	if len(w) == 0 && p.Paths == nil {
		return r
	}
	r.files = allFiles
	if len(w) == 0 {
		return r
	}
	if !w["inet"] {
		r.ports = ll.AccessNetBindTCP | ll.AccessNetConnectTCP | ll.AccessNetBindUDP | ll.AccessNetConnectSendUDP
	}
	if !w["unix"] {
		r.scopes |= ll.ScopeAbstractUnixSocket
	}
	if !w["proc"] {
		r.scopes |= ll.ScopeSignal
	}
	return r
}

// handled returns the part of r that k knows, and what the rest is called.
func (k landlockKernel) handled(r ruleset) (ruleset, []string) {
	var missing []string
	drop := func(abi int, files landlock.AccessFSSet, ports landlock.AccessNetSet, scopes landlock.ScopedSet, name string) {
		if k.abi < abi && (r.files&files != 0 || r.ports&ports != 0 || r.scopes&scopes != 0) {
			missing = append(missing, name)
			r.files &^= files
			r.ports &^= ports
			r.scopes &^= scopes
		}
	}
	drop(2, ll.AccessFSRefer, 0, 0, "moves between directories (always forbidden)")
	drop(3, ll.AccessFSTruncate, 0, 0, gapTruncate)
	drop(4, 0, ll.AccessNetBindTCP|ll.AccessNetConnectTCP, 0, gapTCP)
	drop(5, ll.AccessFSIoctlDev, 0, 0, gapIoctl)
	drop(6, 0, 0, ll.ScopeAbstractUnixSocket, gapAbstract)
	signals := 6
	if k.errata&erratumSignals == 0 {
		signals = 8 // before, the scope is that of a thread: the runtime could not signal its own
	}
	drop(signals, 0, 0, ll.ScopeSignal, gapSignals)
	drop(9, ll.AccessFSResolveUnix, 0, 0, gapUnix)
	drop(10, 0, ll.AccessNetBindUDP|ll.AccessNetConnectSendUDP, 0, gapUDP)
	return r, missing
}

const erratumSignals = 1 << (2 - 1)

// What an old kernel may leave open.
const (
	gapPaths    = "paths"
	gapTruncate = "truncate"
	gapTCP      = "tcp"
	gapIoctl    = "device ioctl"
	gapAbstract = "abstract sockets"
	gapSignals  = "signals"
	gapUnix     = "unix connect"
	gapUDP      = "udp"
	gapAttrs    = "chmod and chown" // Landlock has no word for them yet
)

// gaps returns those of missing that the seccomp filter does not forbid either.
func gaps(missing []string, p Policy, w words, filtered bool) []string {
	open := map[string]bool{
		gapPaths: w.any("rpath wpath cpath dpath unix exec") && p.Paths != nil || w.any(fileWords),
		// Without paths a promise opens all of these.
		gapTruncate: w["wpath"] && p.Paths != nil || w["tmppath"],
		gapUnix:     w["unix"] && p.Paths != nil,
		gapIoctl:    w.any(deviceWords) && p.Paths != nil,
		gapTCP:      w.any("dns " + tcpBind + " " + tcpConnect),
		gapUDP:      w["dns"],
		gapAttrs:    true,
	}
	var left []string
	for _, name := range missing {
		if _, known := open[name]; open[name] || !filtered && (known || name == gapSignals || name == gapAbstract) {
			left = append(left, name)
		}
	}
	return left
}

func (k landlockKernel) prepare(p Policy, w words, root string, filtered bool) (State, func() error, error) {
	state := State{Mechanism: Landlock, Detail: "nothing asked"}
	want := asked(p, w)
	if want == (ruleset{}) {
		return state, nil, nil
	}
	state.Asked = true
	if k.abi == 0 {
		state.Detail = k.why
		state.Missing = []string{gapPaths}
		state.Gaps = gaps(state.Missing, p, w, filtered)
		return state, nil, nil
	}
	have, missing := k.handled(want)
	attrs := w.any("fattr chown")
	if (attrs || !filtered) && (p.Paths != nil || !attrs) {
		missing = append(missing, gapAttrs)
	}
	rules, notes, err := fileRules(p, w, root, have.files)
	if err != nil {
		return state, nil, err
	}
	if w["dns"] && have.ports&ll.AccessNetConnectTCP != 0 {
		rules = append(rules, landlock.ConnectTCP(53))
	}
	if w["dns"] && have.ports&ll.AccessNetConnectSendUDP != 0 {
		rules = append(rules, landlock.BindUDP(0), landlock.ConnectSendUDP(53))
	}
	for _, port := range p.Ports {
		if strings.Contains(port.Perm, "b") && have.ports&ll.AccessNetBindTCP != 0 {
			rules = append(rules, landlock.BindTCP(port.Number))
		}
		if strings.Contains(port.Perm, "c") && have.ports&ll.AccessNetConnectTCP != 0 {
			rules = append(rules, landlock.ConnectTCP(port.Number))
		}
	}
	state.InForce = true
	state.Detail = fmt.Sprintf("ABI %d, %d rules", k.abi, len(rules))
	state.Missing = append(missing, notes...)
	state.Gaps = gaps(missing, p, w, filtered)
	config := landlock.Config{HandledAccessFS: have.files, HandledAccessNet: have.ports, Scoped: have.scopes}
	return state, func() error {
		if err := config.Restrict(rules...); err != nil {
			return fmt.Errorf("sandbox: landlock: %w", err)
		}
		return nil
	}, nil
}

// fileRules returns a rule for each path, with what both it and the promises
// allow and the kernel handles, and a note for each that gets less than it asks for.
func fileRules(p Policy, w words, root string, handled landlock.AccessFSSet) (rules []landlock.Rule, notes []string, err error) {
	promised := promisedFiles(w)
	paths := p.Paths
	if paths == nil {
		paths = []Path{{"/", "rwxc"}}
	}
	for _, path := range paths {
		name := filepath.Join(root, path.Name)
		info, err := os.Stat(name)
		if err != nil {
			return nil, nil, fmt.Errorf("sandbox: path: %w", err)
		}
		if !info.IsDir() && strings.Contains(path.Perm, "c") {
			notes = append(notes, "c of "+path.Name+" (only its directory can give it)")
		}
		rules = addRule(rules, name, info, permFiles(path.Perm)&promised&handled)
	}
	for word := range w {
		for _, path := range impliedPaths(word) {
			name := filepath.Join(root, path.Name)
			if info, err := os.Stat(name); err == nil { // often there are not all of them
				rules = addRule(rules, name, info, permFiles(path.Perm)&handled)
			}
		}
	}
	return rules, notes, nil
}

func addRule(rules []landlock.Rule, name string, info os.FileInfo, rights landlock.AccessFSSet) []landlock.Rule {
	if !info.IsDir() {
		rights &= singleFile
	}
	if rights == 0 {
		return rules
	}
	return append(rules, landlock.PathAccess(rights, name))
}
