package privsep

import (
	"os"
	"strings"
	"syscall"

	"example.org/imsg"
	"example.org/imsg/privsep/sandbox"
)

// A fakeRow is a script and how the daemon has to end for it.
type fakeRow struct {
	name   string
	script func(c *fakeChild)
	step   string
	is     error  // nil: any
	text   string // in the error
	root   bool   // as root only, for a role with a user
}

var fakeRows = []fakeRow{
	// Deaths.
	{"dies at once", func(c *fakeChild) { os.Exit(7) }, "start", nil, "exit status 7", false},
	{"dies after hello", func(c *fakeChild) { c.greet() }, "start", nil, "exit status 0", false},
	{"is killed after hello", func(c *fakeChild) { c.greet(); fakeSuicide() }, "start", nil, "signal: killed", false},
	{"dies after ready", func(c *fakeChild) { c.ready(); os.Exit(8) }, "*", nil, "exit status 8", false},
	{"is killed after go", func(c *fakeChild) { c.readyGo(); fakeSuicide() }, "run", nil, "signal: killed", false},
	{"dies after fail", func(c *fakeChild) {
		c.greet()
		c.send(ctlFail, marshal(failure{Step: "setup", Text: "no disk", Errno: int(syscall.ENOSPC)}))
		os.Exit(9)
	}, "setup", syscall.ENOSPC, "no disk", false},
	{"fails after done", func(c *fakeChild) { c.readyGo(); c.send(ctlDone, marshal(failure{})); os.Exit(10) }, "run", nil, "exit status 10", false},

	// Ends that are none.
	{"closes the channel and lives on", func(c *fakeChild) { c.greet(); c.ctl.Close(); c.hang() }, "start", nil, "", false},
	{"closes the channel after go and lives on", func(c *fakeChild) { c.readyGo(); c.ctl.Close(); c.hang() }, "run", nil, "", false},
	{"lives on after fail", func(c *fakeChild) {
		c.greet()
		c.send(ctlFail, marshal(failure{Step: "setup", Text: "no disk"}))
		c.hang()
	}, "setup", nil, "no disk", false},
	{"lives on after done", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlDone, marshal(failure{Step: "run", Text: "no more"}))
		c.hang()
	}, "run", nil, "no more", false},

	// Wrong messages.
	{"garbage", func(c *fakeChild) { c.raw([]byte(strings.Repeat("\xff", 64))); c.hang() }, "start", ErrProtocol, "", false},
	{"garbage after go", func(c *fakeChild) { c.readyGo(); c.raw(make([]byte, 64)); c.hang() }, "run", ErrProtocol, "", false},
	{"half a message", func(c *fakeChild) { c.raw([]byte{7, 0, 0, 0, 20, 0, 0, 0, 0}) }, "start", nil, "", false},
	{"a type of nobody's", func(c *fakeChild) { c.send(99, nil); c.hang() }, "start", ErrProtocol, "type 99", false},
	{"a type of the parent's", func(c *fakeChild) { c.send(ctlHello, marshal(hello{})); c.hang() }, "start", ErrProtocol, "", false},
	{"go", func(c *fakeChild) { c.readyGo(); c.send(ctlGo, nil); c.hang() }, "run", ErrProtocol, "", false},
	{"ready with a file", func(c *fakeChild) { c.greet(); c.sendFile(ctlReady, marshal(c.status())); c.hang() }, "start", ErrProtocol, "file true", false},
	{"fail with a file", func(c *fakeChild) { c.sendFile(ctlFail, marshal(failure{Text: "x"})); c.hang() }, "start", ErrProtocol, "file true", false},
	{"log with a file", func(c *fakeChild) { c.readyGo(); c.sendFile(ctlLog, fakeRecord(64)); c.hang() }, "run", ErrProtocol, "file true", false},
	{"done with a file", func(c *fakeChild) { c.readyGo(); c.sendFile(ctlDone, marshal(failure{})); c.hang() }, "run", ErrProtocol, "file true", false},
	{"ready that is no JSON", func(c *fakeChild) { c.send(ctlReady, []byte("ready")); c.hang() }, "start", ErrProtocol, "", false},
	{"ready of other types", func(c *fakeChild) { c.send(ctlReady, []byte(`{"UID":"nobody"}`)); c.hang() }, "start", ErrProtocol, "", false},
	{"fail that is no JSON", func(c *fakeChild) { c.send(ctlFail, []byte("{")); c.hang() }, "start", ErrProtocol, "", false},
	{"done that is no JSON", func(c *fakeChild) { c.readyGo(); c.send(ctlDone, nil); c.hang() }, "run", ErrProtocol, "", false},

	// The wrong time.
	{"done before ready", func(c *fakeChild) { c.greet(); c.send(ctlDone, marshal(failure{})); c.hang() }, "start", ErrProtocol, "", false},
	{"ready twice", func(c *fakeChild) { c.ready(); c.send(ctlReady, marshal(c.status())); c.hang() }, "run", ErrProtocol, "", false},
	{"fail after ready", func(c *fakeChild) { c.ready(); c.send(ctlFail, marshal(failure{Text: "x"})); c.hang() }, "run", ErrProtocol, "", false},
	{"done twice", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlDone, marshal(failure{}))
		c.send(ctlDone, marshal(failure{}))
		c.hang()
	}, "run", ErrProtocol, "", false},

	// Lies.
	{"ready with all rights", func(c *fakeChild) { c.ready(); c.hang() }, "start", nil, "user ids 0 0 0 0", true},
	{"ready as another", func(c *fakeChild) {
		c.greet()
		s := c.status()
		s.UID++
		c.send(ctlReady, marshal(s))
		c.hang()
	}, "start", nil, "uid ", true},
	{"ready without its groups given up", func(c *fakeChild) {
		c.greet()
		fakeDrop(c, []int{0, c.hello.GID})
		c.send(ctlReady, marshal(c.status()))
		c.hang()
	}, "start", nil, "group", true},
	{"ready with a sandbox that is none", func(c *fakeChild) {
		c.greet()
		s := c.status()
		s.Sandbox.States = []sandbox.State{{Mechanism: sandbox.Seccomp, Asked: true, InForce: true}}
		c.send(ctlReady, marshal(s))
		c.hang()
	}, "start", nil, "seccomp 0", false},

	// Accusations.
	{"accuses before ready", func(c *fakeChild) { c.greet(); c.accuse("accused", 0); c.hang() }, "start", ErrProtocol, "", false},
	{"accuses the parent", func(c *fakeChild) {
		c.readyGo()
		c.accuse(Parent, 0)
		c.send(ctlDone, marshal(failure{Text: "no more"}))
	}, "run", nil, "no more", false},
	{"accuses itself", func(c *fakeChild) { c.readyGo(); c.accuse("accuses itself", 0); c.hang() }, "run", ErrProtocol, "", false},
	{"accuses nobody", func(c *fakeChild) { c.readyGo(); c.accuse("\x1b[2J\n", 0); c.hang() }, "run", ErrProtocol, "", false},
	{"accuses with a file", func(c *fakeChild) { c.readyGo(); c.sendFile(ctlReplace, []byte("{}")); c.hang() }, "run", ErrProtocol, "file true", false},
	{"accuses in no JSON", func(c *fakeChild) { c.readyGo(); c.send(ctlReplace, []byte("{")); c.hang() }, "run", ErrProtocol, "", false},
	{"accuses after done", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlDone, marshal(failure{}))
		c.accuse("accused", 0)
		c.hang()
	}, "run", ErrProtocol, "", false},

	// Records.
	{"a record that is no JSON", func(c *fakeChild) { c.readyGo(); c.send(ctlLog, []byte("hello")); c.hang() }, "run", ErrProtocol, "", false},
	{"a record that is a list", func(c *fakeChild) { c.readyGo(); c.send(ctlLog, []byte(`["msg"]`)); c.hang() }, "run", ErrProtocol, "", false},
	{"a record without an end", func(c *fakeChild) { c.readyGo(); c.send(ctlLog, []byte(`{"msg":"x"`)); c.hang() }, "run", ErrProtocol, "", false},
	{"an empty record", func(c *fakeChild) { c.readyGo(); c.send(ctlLog, nil); c.hang() }, "run", ErrProtocol, "", false},
	{"a record of no level", func(c *fakeChild) { c.readyGo(); c.send(ctlLog, []byte(`{"level":"LOUD"}`)); c.hang() }, "run", ErrProtocol, "", false},
	{"a record too deep", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlLog, []byte(strings.Repeat(`{"a":`, 2000)+"1"+strings.Repeat("}", 2000)))
		c.hang()
	}, "run", ErrProtocol, "", false},
	{"a list too deep", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlLog, []byte(`{"a":`+strings.Repeat("[", 8000)+strings.Repeat("]", 8000)+"}"))
		c.hang()
	}, "run", ErrProtocol, "", false},
	{"a record too long", func(c *fakeChild) {
		c.readyGo()
		n := uint32(imsg.HeaderSize + maxPayload + 1)
		c.raw(append([]byte{byte(ctlLog), 0, 0, 0, byte(n), byte(n >> 8), byte(n >> 16), 0, 0, 0, 0, 0, 0, 0, 0, 0}, fakeRecord(maxPayload+1)...))
		c.hang()
	}, "run", ErrProtocol, "", false},

	// What is to be read by people.
	{"fail with control characters", func(c *fakeChild) {
		c.greet()
		c.send(ctlFail, marshal(failure{Step: "setup\x1b[2J\nroot: all is well", Text: "a\x1b[1mb\u009b2Jc\u202ed\n"}))
	}, "*", nil, "", false},
}
