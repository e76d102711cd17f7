package sandbox

import (
	"fmt"
	"strings"
)

// vocabulary are OpenBSD's words, but for those of devices (tape, audio, video,
// drm, vmm). It is the same on all systems, so that a policy that is wrong on one
// is wrong on all.
const vocabulary = "stdio rpath wpath cpath dpath tmppath inet mcast fattr chown flock unix dns getpw " +
	"sendfd recvfd tty proc exec prot_exec settime ps vminfo id pf route wroute " +
	"bpf unveil error disklabel"

// portWords stand for "inet" in a policy with Ports: sockets that are there can
// accept and be asked, and new ones bind or connect where a port allows it.
const (
	tcpAccept  = "tcp-accept"
	tcpBind    = "tcp-bind"
	tcpConnect = "tcp-connect"
	portWords  = tcpAccept + " " + tcpBind + " " + tcpConnect
)

// pathWords are the promises that Paths narrow.
const pathWords = "rpath wpath cpath dpath fattr chown unix exec"

// words are the promises of a policy; none means no restriction.
type words map[string]bool

// parse splits promises, and refuses what OpenBSD would refuse or die of.
func parse(promises string) (words, error) {
	w := words{}
	for i, word := range strings.Fields(promises) {
		if !strings.Contains(" "+vocabulary+" ", " "+word+" ") {
			return nil, fmt.Errorf("sandbox: promise %d: unknown word %q", i+1, word)
		}
		w[word] = true
	}
	if len(w) == 0 && promises != "" {
		return nil, fmt.Errorf("sandbox: promises are %d spaces and no word", len(promises))
	}
	if len(w) > 0 && !w["stdio"] {
		return nil, fmt.Errorf("sandbox: none of %d promises is \"stdio\", which the Go runtime needs", len(w))
	}
	return w, nil
}

// words returns the promises of p as its Ports narrow them.
func (p Policy) words() (words, error) {
	w, err := parse(p.Promises)
	if err != nil || p.Ports == nil || !w["inet"] {
		return w, err
	}
	delete(w, "inet")
	w[tcpAccept] = true
	for _, port := range p.Ports {
		if strings.Contains(port.Perm, "b") {
			w[tcpBind] = true
		}
		if strings.Contains(port.Perm, "c") {
			w[tcpConnect] = true
		}
	}
	return w, nil
}

// any reports whether one of the words in list, separated by spaces, was promised.
func (w words) any(list string) bool {
	for word := range strings.FieldsSeq(list) {
		if w[word] {
			return true
		}
	}
	return false
}
