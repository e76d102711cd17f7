package privsep

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.org/imsg/peer"
)

func init() {
	// request sends a message that the other end may not want: role, type, "file"
	// or nothing.
	acts["request"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		typ, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return nil, err
		}
		var f *os.File
		if slices.Contains(args, "file") {
			if f, err = os.Open(os.DevNull); err != nil {
				return nil, err
			}
			defer f.Close()
		}
		return nil, w.p.Peer(args[0]).Send(w.ctx, uint32(typ), f, []byte("{"))
	}
}

// TestRules: the child that asks for what its table has not is killed and named,
// and nothing that it sent is left.
func TestRules(t *testing.T) {
	var handled chan bool
	note := func(context.Context, *peer.Incoming) error { handled <- true; return nil }
	decode := peer.HandlerOf(peer.JSON{}, repOwn, func(context.Context, int) (int, error) { return 0, nil })
	for _, c := range []struct {
		name string
		rule peer.Rule
		good []string // is handled, if there is one
		bad  []string
		want string
	}{
		{"unknown type", peer.Rule{Type: 10, Handle: note}, []string{"10"}, []string{"11"}, "not in the table"},
		{"no table", peer.Rule{}, nil, []string{"10"}, "not in the table"},
		{"twice", peer.Rule{Type: 10, Handle: note, Once: true}, []string{"10"}, []string{"10"}, "second time"},
		{"wrong state", peer.Rule{Type: 10, Handle: note, States: []string{"later"}}, nil, []string{"10"}, `state ""`},
		{"a file where none may be", peer.Rule{Type: 10, Handle: note}, []string{"10"}, []string{"10", "file"}, "with a file"},
		{"no file where one must be", peer.Rule{Type: 10, Handle: note, File: peer.FileRequired}, []string{"10", "file"}, []string{"10"}, "without a file"},
		{"an unknown type with a file", peer.Rule{Type: 10, Handle: note, File: peer.FileOptional}, []string{"10", "file"}, []string{"11", "file"}, "not in the table"},
		{"no JSON", peer.Rule{Type: 10, Handle: decode}, nil, []string{"10"}, "payload"},
	} {
		for _, policy := range []ExitPolicy{EndAll, Ignore} {
			handled = make(chan bool, 1)
			table := func(p *Proc) {
				if c.rule.Handle != nil {
					p.Handle("a", c.rule)
				}
			}
			log := make(lines, 100)
			r := upWith(t, pairDaemon, table, func(d *Daemon) { d.Roles[0].OnExit, d.Logger = policy, log.logger() })
			if c.good != nil {
				tell(t, r.Peer("a"), "request", append([]string{Parent}, c.good...)...)
				<-handled
			}
			tell(t, r.Peer("a"), "request", append([]string{Parent}, c.bad...)...)
			if policy == Ignore { // the others go on
				line := log.wait(t, "broke the rules")
				if !strings.Contains(line, strings.ReplaceAll(c.want, `"`, `\"`)) || !strings.Contains(line, `"role":"a"`) {
					t.Errorf("%s: %s", c.name, line)
				}
				log.wait(t, "a child has ended")
				ask[peerName](t, r.Peer("b"), "hello")
				if err := r.end(); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				continue
			}
			err := r.wait()
			var child *ChildError
			var rule *peer.RuleError
			if !errors.As(err, &child) || child.Role != "a" || child.Step != "run" || !errors.Is(err, peer.ErrViolation) || !errors.As(err, &rule) || !strings.Contains(rule.Reason, c.want) {
				t.Errorf("%s: error %v", c.name, err)
			}
		}
	}
}

// TestState: what the state allows is allowed, as long as it does.
func TestState(t *testing.T) {
	handled := make(chan string, 1)
	r := upWith(t, pairDaemon, func(p *Proc) {
		p.Handle("a", peer.Rule{Type: 10, States: []string{"open"}, Handle: func(_ context.Context, in *peer.Incoming) error {
			handled <- in.Peer().State()
			in.Peer().SetState("closed")
			return nil
		}})
		p.Peer("a").SetState("open")
	})
	tell(t, r.Peer("a"), "request", Parent, "10")
	if got := <-handled; got != "open" {
		t.Errorf("state %q", got)
	}
	tell(t, r.Peer("a"), "request", Parent, "10")
	if err := r.wait(); !errors.Is(err, peer.ErrViolation) || !strings.Contains(err.Error(), `state "closed"`) {
		t.Errorf("error %v", err)
	}
}

// TestHandlerPanics: a child that makes a handler of the parent panic ends nobody
// by it, and the log says where it was.
func TestHandlerPanics(t *testing.T) {
	log := make(lines, 100)
	r := upWith(t, pairDaemon, func(p *Proc) {
		p.Handle("a", peer.Rule{Type: 10, Handle: func(context.Context, *peer.Incoming) error { panic("the parent's fault") }})
	}, func(d *Daemon) { d.Logger = log.logger() })
	tell(t, r.Peer("a"), "request", Parent, "10")
	if line := log.wait(t, "a request failed"); !strings.Contains(line, "the parent's fault") || !strings.Contains(line, "TestHandlerPanics") {
		t.Error(line)
	}
	for _, role := range []string{"a", "b"} {
		ask[peerName](t, r.Peer(role), "hello")
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestSiblingRules: a child that breaks its sibling's rules loses the channel to
// it, and gets another one; nobody dies of it.
func TestSiblingRules(t *testing.T) {
	for _, bad := range [][]string{{"10"}, {"10", "file"}} {
		log := make(lines, 100)
		r := up(t, pairDaemon, patient, func(d *Daemon) { d.Logger = log.logger() })
		tell(t, r.Peer("a"), "request", append([]string{"b"}, bad...)...)
		if line := log.wait(t, "closed the channel"); !strings.Contains(line, "peer: request type "+bad[0]+": not in the table") || !strings.Contains(line, `"role":"b"`) || !strings.Contains(line, `"peer":"a"`) {
			t.Errorf("%v: %s", bad, line)
		}
		if got := ask[peerName](t, r.Peer("a"), "next", "b", "0", "hello"); got.Role != "b" {
			t.Errorf("%v: b says it is %v", bad, got)
		}
		if got := ask[peerName](t, r.Peer("b"), "next", "a", "0", "hello"); got.Role != "a" {
			t.Errorf("%v: a says it is %v", bad, got)
		}
		if err := r.end(); err != nil {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestHandlerError: an error is an answer, and ends nobody.
func TestHandlerError(t *testing.T) {
	r := up(t, pairDaemon)
	for range 3 {
		var remote *peer.RemoteError
		if _, err := try[any](t.Context(), r.Peer("a"), nil, "no such act"); !errors.As(err, &remote) || remote.Text != `no act "no such act"` {
			t.Errorf("error %v", err)
		}
	}
}

var workersDaemon = register(Daemon{Name: "workers", Roles: []Role{{Name: "a", Run: witness, Workers: 2}}})

// meeting is where two handlers of a process meet.
var meeting = make(chan bool)

func init() {
	acts["meet"] = func(w *testimony, _ []string, _ *os.File) (any, error) {
		select {
		case meeting <- true:
		case <-meeting:
		case <-w.ctx.Done():
		}
		return nil, w.ctx.Err()
	}
}

// TestWorkers: as many requests of one peer are handled at a time.
func TestWorkers(t *testing.T) {
	r := up(t, workersDaemon)
	met := make(chan error, 2)
	for range cap(met) {
		go func() {
			_, err := try[any](t.Context(), r.Peer("a"), nil, "meet")
			met <- err
		}()
	}
	for range cap(met) {
		if err := <-met; err != nil {
			t.Error(err)
		}
	}
}
