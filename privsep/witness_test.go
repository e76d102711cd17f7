package privsep

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"example.org/imsg/peer"
)

// The types of the tests' messages.
const (
	reqDo   uint32 = 1 + iota // an order, with or without a file
	repDo                     // its result
	reqTell                   // an order without an answer
	reqOwn                    // for the tests' own tables
	repOwn
)

// An order is what a witness is asked to do.
type order struct {
	Do   string
	Args []string
}

// A testimony is the state of a witness.
type testimony struct {
	ctx context.Context
	p   *Proc
	end chan error // what Run returns
}

// An act is what a witness does for an order. The file, which may be nil, is
// closed afterwards.
type act func(w *testimony, args []string, f *os.File) (any, error)

// witness is a Run that does what all its peers order.
func witness(ctx context.Context, p *Proc) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &testimony{ctx: ctx, p: p, end: make(chan error, 1)}
	peers, _ := p.all()
	done := make(map[string]bool)
	for name := range peers {
		if !done[name.Role] {
			done[name.Role] = true
			p.Handle(name.Role,
				peer.Rule{Type: reqDo, Handle: w.handle, File: peer.FileOptional},
				peer.Rule{Type: reqTell, Handle: w.handle, File: peer.FileOptional})
		}
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	select {
	case err := <-served:
		return err
	case err := <-w.end:
		return err
	}
}

func (w *testimony) handle(ctx context.Context, r *peer.Incoming) error {
	var o order
	if err := json.Unmarshal(r.Bytes(), &o); err != nil {
		return err
	}
	do := acts[o.Do]
	if do == nil {
		return fmt.Errorf("no act %q", o.Do)
	}
	f := r.TakeFile()
	if f != nil {
		defer f.Close()
	}
	result, err := do(w, o.Args, f)
	if err != nil || r.Type() == reqTell {
		return err
	}
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return r.Reply(repDo, nil, data)
}

// try orders something of a witness. An error of its act is a *peer.RemoteError.
func try[T any](ctx context.Context, q *peer.Peer, f *os.File, do string, args ...string) (T, error) {
	var v T
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := q.Call(ctx, peer.Request{Type: reqDo, File: f, Data: marshal(order{do, args}), Ends: []uint32{repDo}})
	if err != nil {
		return v, fmt.Errorf("%s %v: %w", do, args, err)
	}
	defer m.Close()
	return v, json.Unmarshal(m.Bytes(), &v)
}

// ask fails the test if the witness cannot do it.
func ask[T any](t testing.TB, q *peer.Peer, do string, args ...string) T {
	t.Helper()
	v, err := try[T](t.Context(), q, nil, do, args...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// tell orders what a witness may not live to answer.
func tell(t testing.TB, q *peer.Peer, do string, args ...string) {
	t.Helper()
	if err := q.Send(t.Context(), reqTell, nil, marshal(order{do, args})); err != nil {
		t.Fatal(err)
	}
}

// acts are what witnesses can do. Others are added by other files.
var acts = map[string]act{
	"hello": func(w *testimony, _ []string, _ *os.File) (any, error) {
		return peerName{w.p.Role(), w.p.Instance()}, nil
	},
	"args":   func(*testimony, []string, *os.File) (any, error) { return os.Args, nil },
	"env":    func(*testimony, []string, *os.File) (any, error) { return os.Environ(), nil },
	"config": func(w *testimony, _ []string, _ *os.File) (any, error) { return sum(w.p.Config()), nil },
	"path":   func(w *testimony, args []string, _ *os.File) (any, error) { return w.p.Path(args[0]), nil },

	// list returns the names in a directory.
	"list": func(_ *testimony, args []string, _ *os.File) (any, error) {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return f.Readdirnames(-1)
	},

	// read returns what is in the file that came, in the one that was given under
	// a name, or in the one that is opened.
	"take":  func(_ *testimony, _ []string, f *os.File) (any, error) { return contents(f) },
	"given": func(w *testimony, args []string, _ *os.File) (any, error) { return contents(w.p.File(args[0])) },
	"open": func(_ *testimony, args []string, _ *os.File) (any, error) {
		data, err := os.ReadFile(args[0])
		return string(data), err
	},

	// relay orders something of a peer: role, instance, act, arguments.
	"relay": func(w *testimony, args []string, f *os.File) (any, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return nil, err
		}
		return try[json.RawMessage](w.ctx, w.p.Peers(args[0])[n], f, args[2], args[3:]...)
	},

	// lost returns when the channel to a peer has ended.
	"lost": func(w *testimony, args []string, _ *os.File) (any, error) {
		q := w.p.Peer(args[0])
		select {
		case <-q.Done():
			return fmt.Sprint(q.Err()), nil
		case <-w.ctx.Done():
			return nil, w.ctx.Err()
		}
	},

	// The ways to end.
	"return": func(w *testimony, args []string, _ *os.File) (any, error) {
		var err error
		if len(args) > 0 {
			err = errors.New(args[0])
		}
		if len(args) > 1 {
			n, _ := strconv.Atoi(args[1])
			err = fmt.Errorf("%s: %w", args[0], syscall.Errno(n))
		}
		w.end <- err
		return nil, nil
	},
	"exit": func(_ *testimony, args []string, _ *os.File) (any, error) {
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
		return nil, nil
	},
	"kill": func(*testimony, []string, *os.File) (any, error) {
		return nil, syscall.Kill(os.Getpid(), syscall.SIGKILL)
	},
	"panic": func(*testimony, []string, *os.File) (any, error) { // not the handler's, which ends nothing
		go panic("the test wants it")
		select {}
	},
}

// sum stands for data that may be long.
func sum(data []byte) string { return fmt.Sprintf("%d %x", len(data), sha256.Sum256(data)) }

// contents reads a file from its beginning, wherever its offset is.
func contents(f *os.File) (any, error) {
	if f == nil {
		return nil, os.ErrNotExist
	}
	buf := make([]byte, 1<<10)
	n, err := f.ReadAt(buf, 0)
	if n > 0 {
		err = nil
	}
	return string(buf[:n]), err
}
