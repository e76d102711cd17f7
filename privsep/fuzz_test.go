package privsep

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// fakeProcess is a child as the parent sees it, which is this process itself.
func fakeProcess() *process {
	s := &shared{
		d: &Daemon{Name: "fuzz", Grace: time.Second}, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		launcher: &launcher{}, events: make(chan event), over: make(chan struct{}),
	}
	close(s.over) // nobody listens to events
	p := &process{shared: s, session: session{state: stateGreeted}, plan: &plan{role: &Role{Name: "child"}, uid: -1, gid: -1}, name: peerName{"child", 0}, left: make(chan struct{})}
	p.os, _ = os.FindProcess(os.Getpid())
	return p
}

// fakeReceiver is a child that has been greeted.
func fakeReceiver(ctl *imsg.Conn) *child {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	return &child{ctl: ctl, session: newSession(), proc: newProc(peerName{"child", 0}, log, []peerRole{{Name: Parent, Instances: 1}, {Name: "other", Instances: 2, Passes: true}})}
}

// fakeFrame is a message as bytes.
func fakeFrame(typ uint32, file bool, data []byte) []byte {
	size := uint32(imsg.HeaderSize + len(data))
	if file {
		size |= 1 << 31
	}
	b := binary.NativeEndian.AppendUint32(nil, typ)
	b = binary.NativeEndian.AppendUint32(b, size)
	return append(append(b, make([]byte, 8)...), data...)
}

// FuzzControl: whatever comes over a control channel, with as many files as there
// is room for, neither end of it panics or loses a descriptor.
func FuzzControl(f *testing.F) {
	build, err := fingerprint()
	if err != nil {
		f.Fatal(err)
	}
	h := hello{Protocol: protocol, Build: build, Role: "child", rights: rights{UID: -1, GID: -1}, Files: 1, Config: 3, Peers: []peerRole{{Name: "other", Instances: 1, Passes: true}}}
	greeting := slices.Concat(fakeFrame(ctlHello, false, marshal(h)), fakeFrame(ctlConfig, false, []byte("abc")),
		fakeFrame(ctlFile, true, []byte("name")), fakeFrame(ctlPeer, true, marshal(peerName{Role: Parent})), fakeFrame(ctlPeer, true, marshal(peerName{Role: "other"})))
	for _, seed := range [][]byte{
		nil,
		greeting,
		greeting[:len(greeting)/2],
		fakeFrame(ctlHello, true, marshal(h)),
		slices.Concat(fakeFrame(ctlPeer, true, []byte(`{"Role":"other","Instance":-1}`)), fakeFrame(ctlPeer, true, []byte(`{"Role":"other","Instance":2}`))),
		slices.Concat(fakeFrame(ctlPeer, true, marshal(peerName{Role: Parent})), fakeFrame(ctlPeer, true, marshal(peerName{Role: Parent})), fakeFrame(ctlPeer, true, marshal(peerName{Role: "other"}))),
		slices.Concat(fakeFrame(ctlHello, false, marshal(h)), fakeFrame(ctlFile, true, []byte("name")), fakeFrame(ctlFile, true, []byte("name"))),
		fakeFrame(ctlReady, false, marshal(Status{UID: os.Getuid(), GID: os.Getgid()})),
		slices.Concat(fakeFrame(ctlReady, false, []byte("{}")), fakeFrame(ctlLog, false, fakeRecord(100)), fakeFrame(ctlDone, false, marshal(failure{Step: "\n", Text: "\xff\x00", Errno: -1}))),
		fakeFrame(ctlFail, false, marshal(failure{Step: "setup", Text: "text", Errno: 1 << 30, Build: true})),
		fakeFrame(ctlLog, false, []byte(`{"a":[1,{"b":null,"":[]},"c"],"time":"x","level":"INFO+99"} x`)),
		fakeFrame(ctlLog, false, []byte(strings.Repeat(`[`, 100))),
		fakeFrame(ctlLog, true, []byte(`{"level":1,"msg":{},"time":[]}`)),
		fakeFrame(99, true, nil),
	} {
		f.Add(seed, uint8(7))
		f.Add(seed, uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, files uint8) {
		before := imsgtest.OpenFDs()
		fuzzParent(t, fuzzChannel(t, data, int(files%8)))
		fuzzChild(t, fuzzChannel(t, data, int(files%8)))
		if now := imsgtest.OpenFDs(); !maps.Equal(before, now) {
			t.Errorf("descriptors before: %v\nand after: %v", before, now)
		}
	})
}

// fuzzChannel returns a channel in which these bytes and nothing else are, with a
// file for each of the first messages that claim to have one.
func fuzzChannel(t *testing.T, data []byte, files int) *imsg.Conn {
	t.Helper()
	near, far := imsgtest.Sockets(t)
	data = data[:min(len(data), 1<<16)] // what a socket holds
	for ; files > 0 && len(data) >= imsg.HeaderSize; files-- {
		size := binary.NativeEndian.Uint32(data[4:])
		n := min(len(data), max(1, int(size&^(1<<31))))
		if size&(1<<31) == 0 {
			far.Write(data[:n])
		} else {
			a, b := imsgtest.Sockets(t)
			far.Write(data[:n], a.FD)
			a.Close()
			b.Close()
		}
		data = data[n:]
	}
	if len(data) > 0 {
		far.Write(data)
	}
	far.Close()
	ctl, err := imsg.NewConn(near.Take(), &imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	return ctl
}

// fuzzParent is process.receive in this goroutine.
func fuzzParent(t *testing.T, ctl *imsg.Conn) {
	defer ctl.Close()
	p := fakeProcess()
	defer p.os.Release()
	for m, err := range ctl.All(t.Context()) {
		if err != nil {
			return
		}
		err = p.handle(m)
		m.Close()
		if err != nil {
			return
		}
	}
}

// fuzzChild takes what a child gets before its code runs.
func fuzzChild(t *testing.T, ctl *imsg.Conn) {
	defer ctl.Close()
	c := fakeReceiver(ctl)
	defer c.proc.close()
	types := []uint32{ctlHello, ctlConfig, ctlFile, ctlPeer}
	for i := 0; ; i = (i + 1) % len(types) {
		m, err := expect(t.Context(), ctl, types[i], types[i] == ctlFile || types[i] == ctlPeer)
		switch {
		case errors.Is(err, ErrProtocol):
			continue
		case err != nil:
			return
		case types[i] == ctlHello:
			err = unmarshal(m, &c.hello)
		case types[i] == ctlPeer:
			err = c.addPeer(m)
		}
		m.Close()
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("error %v is not that of a protocol", err)
		}
	}
}
