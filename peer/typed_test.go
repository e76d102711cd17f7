package peer_test

import (
	"context"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/peer"
)

type sum struct{ A, B int }

func add(_ context.Context, s sum) (int, error) {
	if s.A < 0 {
		return 0, errTest
	}
	return s.A + s.B, nil
}

// TestTyped asks with every outcome.
func TestTyped(t *testing.T) {
	p, q := both(t, &peer.Config{ErrorType: failed})
	q.Handle(
		peer.Rule{Type: ask, Handle: peer.HandlerOf(peer.JSON{}, answer, add)},
		peer.Rule{Type: nest, Handle: peer.HandlerOf(peer.JSON{}, answer, func(context.Context, int) (func(), error) { return nil, nil })})
	served := serve(t, q)
	if n, err := peer.CallTyped[sum, int](shortCtx(t), p, peer.JSON{}, ask, answer, sum{2, 3}); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, tt := range []struct {
		name string
		ask  func() (int, error)
		want string
	}{
		{"handler fails", func() (int, error) {
			return peer.CallTyped[sum, int](shortCtx(t), p, peer.JSON{}, ask, answer, sum{-1, 3})
		}, "did not?work"},
		{"request cannot be encoded", func() (int, error) {
			return peer.CallTyped[func(), int](shortCtx(t), p, peer.JSON{}, ask, answer, nil)
		}, "call type 1: json: unsupported type"},
		{"answer cannot be encoded", func() (int, error) { return peer.CallTyped[int, int](shortCtx(t), p, peer.JSON{}, nest, answer, 1) }, "json: unsupported type"},
		{"answer cannot be decoded", func() (int, error) {
			s, err := peer.CallTyped[sum, string](shortCtx(t), p, peer.JSON{}, ask, answer, sum{2, 3})
			return len(s), err
		}, "answer to type 1: json: cannot unmarshal"},
		{"request cannot be decoded", func() (int, error) { return peer.CallTyped[string, int](shortCtx(t), p, peer.JSON{}, ask, answer, "x") }, "unexpected EOF"},
	} {
		n, err := tt.ask()
		if n != 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d, %v, want %q", tt.name, n, err, tt.want)
		}
	}
	wantViolation(t, "Serve", served(), "request type 1: payload: json: cannot unmarshal")
}

// TestTypedNote sends what expects no answer to a handler that would have one.
func TestTypedNote(t *testing.T) {
	a, b := imsgtest.Pair(t, nil)
	p := closed(t, peer.New(a, &peer.Config{Report: func(err error) { t.Error(err) }}))
	q := closed(t, peer.New(b, nil))
	handled := make(chan sum, 1)
	q.Handle(peer.Rule{Type: note, Handle: peer.HandlerOf(peer.JSON{}, answer, func(ctx context.Context, s sum) (int, error) {
		handled <- s
		return add(ctx, s)
	})}, peer.Rule{Type: ask, Handle: echo})
	serve(t, q)
	check(t, "Send", p.Send(shortCtx(t), note, nil, []byte(`{"A":1}`)), nil)
	if s := <-handled; s.A != 1 {
		t.Errorf("%+v", s)
	}
	_, err := call(shortCtx(t), p, "") // behind what the handler could have said
	check(t, "Call", err, nil)
}

// TestTypedGarbage sends payloads that are no JSON.
func TestTypedGarbage(t *testing.T) {
	for _, text := range []string{"", "{", "{} {}", strings.Repeat("[", 16000)} {
		p, c := end(t, nil)
		p.Handle(peer.Rule{Type: ask, Handle: peer.HandlerOf(peer.JSON{}, answer, add)})
		send(t, c, imsg.Header{Type: ask}, nil, text)
		check(t, "Serve", p.Serve(shortCtx(t)), peer.ErrViolation)
	}
}
