package privsep

import (
	"bytes"
	"strings"
	"testing"
)

// TestWrongHello: a child refuses what its parent should not say, and says why.
func TestWrongHello(t *testing.T) {
	with := func(change func(*hello)) func(*fakeParent) {
		return func(p *fakeParent) {
			h := p.hello("open")
			change(&h)
			p.send(ctlHello, nil, h)
		}
	}
	rows := []struct {
		name string
		say  func(*fakeParent)
		step string
		text string
	}{
		{"another build", with(func(h *hello) { h.Build = "0" }), "hello", ErrBuild.Error()},
		{"no build", with(func(h *hello) { h.Build = "" }), "hello", ErrBuild.Error()},
		{"another protocol", with(func(h *hello) { h.Protocol++ }), "hello", ErrBuild.Error()},
		{"another role", with(func(h *hello) { h.Role = "closed" }), "hello", "greeted as closed"},
		{"no role", with(func(h *hello) { h.Role = "" }), "hello", ErrProtocol.Error()},
		{"another instance", with(func(h *hello) { h.Instance = 1 }), "hello", "greeted as open[1]"},
		{"no JSON", func(p *fakeParent) { p.send(ctlHello, nil, []byte("hello")) }, "hello", ErrProtocol.Error()},
		{"garbage", func(p *fakeParent) { p.raw(bytes.Repeat([]byte{0xff}, 64)) }, "hello", "header length"},
		{"go first", func(p *fakeParent) { p.send(ctlGo, nil, []byte{}) }, "hello", ErrProtocol.Error()},
		{"hello with a file", func(p *fakeParent) { p.send(ctlHello, p.null(), p.hello("open")) }, "hello", ErrProtocol.Error()},
		{"hello twice", func(p *fakeParent) {
			p.send(ctlHello, nil, p.hello("open"))
			p.send(ctlHello, nil, p.hello("open"))
		}, "peers", ErrProtocol.Error()},
		{"a channel without a file", func(p *fakeParent) {
			p.send(ctlHello, nil, p.hello("open"))
			p.send(ctlPeer, nil, peerName{Role: Parent})
		}, "peers", ErrProtocol.Error()},
		{"a channel to nobody", func(p *fakeParent) {
			p.send(ctlHello, nil, p.hello("open"))
			p.send(ctlPeer, p.null(), peerName{Role: "nobody"})
		}, "peers", ErrProtocol.Error()},
		{"a channel to one that is no peer", func(p *fakeParent) {
			p.send(ctlHello, nil, p.hello("open"))
			p.send(ctlPeer, p.null(), peerName{Role: "closed"})
		}, "peers", ErrProtocol.Error()},
		{"a channel with a name that is no JSON", func(p *fakeParent) {
			p.send(ctlHello, nil, p.hello("open"))
			p.send(ctlPeer, p.null(), []byte("parent"))
		}, "peers", ErrProtocol.Error()},
		{"a file without a file", func(p *fakeParent) {
			h := p.hello("open")
			h.Files = 1
			p.send(ctlHello, nil, h)
			p.send(ctlFile, nil, []byte("name"))
		}, "peers", ErrProtocol.Error()},
		{"less configuration than said", func(p *fakeParent) {
			h := p.hello("open")
			h.Config = 5
			p.send(ctlHello, nil, h)
			p.send(ctlConfig, nil, []byte("four"))
			p.connect()
		}, "peers", ErrProtocol.Error()},
		{"no root", func(p *fakeParent) {
			h := p.hello("open")
			h.Root, h.Chroot = true, "/"
			p.send(ctlHello, nil, h)
			p.connect()
		}, "peers", ErrProtocol.Error()},
		{"a root that is no directory", func(p *fakeParent) {
			h := p.hello("open")
			h.Root, h.Chroot = true, "/"
			p.send(ctlHello, nil, h)
			p.send(ctlRoot, p.null(), []byte{})
		}, "chroot", "not a directory"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			defer leaveNothing(t)()
			p := fakeAdopt(t, "open")
			r.say(p)
			if r.step == "chroot" {
				p.connect()
			}
			var f failure
			p.expect(ctlFail, &f)
			if f.Step != r.step || !strings.Contains(f.Text, r.text) || f.Build != (r.text == ErrBuild.Error()) {
				t.Errorf("failure %+v; want step %q, text %q", f, r.step, r.text)
			}
			if status := p.exit(); status != 1 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}
