package peer_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// TestTable sends what a table allows, and one message that it does not.
func TestTable(t *testing.T) {
	type msg struct {
		typ  uint32
		file bool
	}
	for _, tt := range []struct {
		name string
		rule peer.Rule
		msgs []msg
		want string // in the error; "": none
	}{
		{"allowed", peer.Rule{}, []msg{{ask, false}, {ask, false}}, ""},
		{"unknown", peer.Rule{}, []msg{{ask, false}, {note, false}}, "request type 4: not in the table"},
		{"unknown with a file", peer.Rule{}, []msg{{note, true}}, "not in the table"},
		{"type 0", peer.Rule{}, []msg{{0, false}}, "request type 0: not in the table"},
		{"unexpected file", peer.Rule{}, []msg{{ask, true}}, "request type 1: with a file"},
		{"file or not", peer.Rule{File: peer.FileOptional}, []msg{{ask, true}, {ask, false}}, ""},
		{"file", peer.Rule{File: peer.FileRequired}, []msg{{ask, true}, {ask, true}}, ""},
		{"no file", peer.Rule{File: peer.FileRequired}, []msg{{ask, false}}, "request type 1: without a file"},
		{"once", peer.Rule{Once: true}, []msg{{ask, false}}, ""},
		{"twice", peer.Rule{Once: true}, []msg{{ask, false}, {ask, false}}, "request type 1: for the second time"},
		{"first state", peer.Rule{States: []string{""}}, []msg{{ask, false}}, ""},
		{"state after state", peer.Rule{States: []string{"", "asked"}}, []msg{{ask, false}, {ask, false}}, ""},
		{"wrong state", peer.Rule{States: []string{""}}, []msg{{ask, false}, {ask, false}}, `request type 1: in state "asked", allowed in [""]`},
		{"no state", peer.Rule{States: []string{}}, []msg{{ask, false}}, `in state "", allowed in []`},
		{"unasked failure", peer.Rule{}, []msg{{failed, false}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dialects(t, func(t *testing.T, d imsg.Dialect) {
				a, c := imsgtest.Pair(t, &imsg.Config{Dialect: d})
				p := closed(t, peer.New(a, &peer.Config{ErrorType: failed}))
				handled := 0
				tt.rule.Type = ask
				tt.rule.Handle = func(_ context.Context, r *peer.Incoming) error {
					handled++
					if s := r.Peer().State(); s != "" && (s != "asked" || handled == 1) {
						t.Errorf("request %d in state %q", handled, s)
					}
					r.Peer().SetState("asked")
					return nil
				}
				p.Handle(tt.rule)
				w, r := pipe(t)
				for _, m := range tt.msgs {
					f := w
					if !m.file {
						f = nil
					}
					send(t, c, imsg.Header{Type: m.typ}, f, "")
				}
				w.Close()
				if tt.want == "" {
					c.Close()
				}
				err := p.Serve(shortCtx(t))
				allClosed(t, r)
				if tt.want == "" {
					if err != nil || handled != len(tt.msgs) && tt.msgs[0].typ == ask {
						t.Errorf("%d of %d handled: %v", handled, len(tt.msgs), err)
					}
					return
				}
				check(t, "Serve", err, peer.ErrViolation)
				var rule *peer.RuleError
				if !errors.As(err, &rule) || rule.Type != tt.msgs[len(tt.msgs)-1].typ || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				check(t, "Err", p.Err(), err)
				if _, err := call(shortCtx(t), p, ""); !errors.Is(err, net.ErrClosed) || errors.Is(err, peer.ErrViolation) ||
					!strings.Contains(err.Error(), tt.want) {
					t.Errorf("a call behind: %v", err)
				}
				if _, err := c.Receive(shortCtx(t)); err == nil {
					t.Error("the other end is still connected")
				}
			})
		})
	}
}

// TestUnaskedFailure sends an error for a request that was never made.
func TestUnaskedFailure(t *testing.T) {
	matches(t, func(t *testing.T, m peer.Match) {
		p, c := end(t, &peer.Config{Match: m, ErrorType: failed})
		send(t, c, imsg.Header{Type: failed, ID: 7}, nil, "")
		wantViolation(t, "Serve", p.Serve(shortCtx(t)), "unasked")
	})
}

// TestLostFile sends a file to an end that cannot take it.
func TestLostFile(t *testing.T) {
	for _, tt := range []struct {
		rule      peer.FileRule
		violation bool
	}{{peer.FileForbidden, true}, {peer.FileOptional, false}, {peer.FileRequired, false}} {
		for _, none := range []bool{false, true} {
			sa, sb := imsgtest.Sockets(t)
			p := closed(t, peer.New(testutil.NewConn(t, sa.Take(), nil), &peer.Config{NoErrorType: none}))
			q := closed(t, peer.New(testutil.NewConn(t, sb.Take(), &imsg.Config{AllowFDPass: true}), nil))
			p.Handle(peer.Rule{Type: ask, File: tt.rule, Handle: func(context.Context, *peer.Incoming) error {
				t.Error("handled without its file")
				return nil
			}})
			served := serve(t, p)
			w, _ := pipe(t)
			_, err := q.Call(shortCtx(t), peer.Request{Type: ask, File: w, Ends: []uint32{answer}})
			var remote *peer.RemoteError
			if answered := errors.As(err, &remote); answered == (tt.violation || none) {
				t.Errorf("rule %d, no error type %v: %v", tt.rule, none, err)
			}
			q.Close()
			err = served()
			if errors.Is(err, peer.ErrViolation) != tt.violation {
				t.Errorf("rule %d, no error type %v: %v", tt.rule, none, err)
			}
			if !tt.violation && none {
				check(t, "Serve", err, imsg.ErrFileLost)
			}
		}
	}
}

func TestHandlePanics(t *testing.T) {
	for name, rules := range map[string][]peer.Rule{
		"twice":      {{Type: ask, Handle: echo}, {Type: ask, Handle: echo}},
		"error type": {{Type: failed, Handle: echo}},
		"no handler": {{Type: ask}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			p, _ := end(t, &peer.Config{ErrorType: failed})
			p.Handle(rules...)
		}()
	}
}

// TestDirectory refuses to pass a directory, by every way.
func TestDirectory(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	testutil.Must(t, err)
	defer dir.Close()
	for _, allowed := range []bool{false, true} {
		p, q := both(t, &peer.Config{Directories: allowed})
		q.Handle(peer.Rule{Type: ask, File: peer.FileOptional, Handle: func(_ context.Context, r *peer.Incoming) error {
			err := r.Reply(answer, dir)
			if (err == nil) != allowed {
				t.Errorf("Reply: %v", err)
			}
			if err != nil {
				return r.Reply(answer, nil)
			}
			return nil
		}}, peer.Rule{Type: note, File: peer.FileOptional, Handle: func(context.Context, *peer.Incoming) error { return nil }})
		served := serve(t, q)
		if err := p.Send(shortCtx(t), note, dir); (err == nil) != allowed {
			t.Errorf("Send: %v", err)
		} else if !allowed && !strings.Contains(err.Error(), "directory") {
			t.Error(err)
		}
		m, err := p.Call(shortCtx(t), peer.Request{Type: ask, File: dir, Ends: []uint32{answer}})
		if allowed != (err == nil && m.HasFile()) || !allowed && !errors.Is(err, syscall.EISDIR) {
			t.Errorf("Call: file %v, %v", m.HasFile(), err)
		}
		m.Close()
		if m, err = p.Call(shortCtx(t), peer.Request{Type: ask, Ends: []uint32{answer}}); err != nil || m.HasFile() != allowed {
			t.Errorf("Call: file %v, %v", m.HasFile(), err)
		}
		m.Close()
		p.Close()
		check(t, "Serve", served(), nil)
	}
}
