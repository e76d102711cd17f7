// Command privsep is a daemon of three processes, the smallest that shows how
// package privsep is used.
//
//	      parent          may do what its user may; opens what its table allows
//	     /      \
//	worker ---- logger    user nobody, in an empty directory, no right to open
//	                      anything: the worker can receive files, the logger
//	                      can only write to the file that it was given
//
// The worker counts the lines of files that it gets from the parent, and has
// the logger print the result. When it is done, the daemon ends.
//
//	go run ./examples/privsep
//
// An ordinary user runs the same program: what needs root is then missing, and
// each child's status says so.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"example.org/imsg/peer"
	"example.org/imsg/privsep"
	"example.org/imsg/privsep/sandbox"
)

// What the processes say to each other.
const (
	reqOpen uint32 = 1 + iota // worker to parent: a name
	repOpen                   // the answer: the file
	msgLine                   // worker to logger: a line
)

var daemon = privsep.Daemon{
	Name: "example", User: "nobody", Chroot: privsep.EmptyDir,
	Roles: []privsep.Role{
		{Name: "worker", Run: work, Peers: []string{"logger"}, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
		{Name: "logger", Run: write, Sandbox: sandbox.Policy{Promises: "stdio"}},
	},
	Prepare: prepare,
	Parent:  parent,
}

func main() { daemon.Main() } // the children begin here too

// prepare gives the logger the standard output: what children write to their own
// goes to the parent's log.
func prepare(ctx context.Context, p *privsep.Proc) error {
	p.AddFile("logger", "out", os.Stdout)
	return nil
}

// allowed is the policy: the names that the worker may ask for. It never sees a path.
var allowed = map[string]string{
	"hosts": "/etc/hosts",
	"users": "/etc/passwd",
}

// parent answers the worker. Any other request than those in its table would be
// the worker's end.
func parent(ctx context.Context, p *privsep.Proc) error {
	for _, s := range p.Status() {
		fmt.Println(s)
	}
	p.Handle("worker", peer.Rule{Type: reqOpen, Handle: open})
	return p.Serve(ctx)
}

func open(ctx context.Context, r *peer.Incoming) error {
	path, ok := allowed[string(r.Bytes())]
	if !ok {
		return fmt.Errorf("%q is not in the table", r.Bytes()) // the worker gets this text
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // the worker has its own
	return r.Reply(repOpen, f)
}

// work is the worker. When it returns nil the daemon ends with status 0.
func work(ctx context.Context, p *privsep.Proc) error {
	for _, name := range []string{"hosts", "users", "shadow"} {
		line, err := count(ctx, p.Parent(), name)
		if refused := (*peer.RemoteError)(nil); errors.As(err, &refused) {
			line = "refused: " + refused.Text
		} else if err != nil {
			return err
		}
		// Nothing is lost at the end: the logger is declared behind the worker.
		if err := p.Peer("logger").Send(ctx, msgLine, nil, []byte(name+": "+line+"\n")); err != nil {
			return err
		}
	}
	return nil
}

func count(ctx context.Context, parent *peer.Peer, name string) (string, error) {
	f, err := parent.CallFile(ctx, peer.Request{Type: reqOpen, Data: []byte(name), Ends: []uint32{repOpen}})
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return fmt.Sprintf("%d lines", bytes.Count(text, []byte("\n"))), err
}

// write is the logger.
func write(ctx context.Context, p *privsep.Proc) error {
	p.Handle("worker", peer.Rule{Type: msgLine, Handle: func(_ context.Context, r *peer.Incoming) error {
		_, err := p.File("out").Write(r.Bytes())
		return err
	}})
	return p.Serve(ctx)
}
