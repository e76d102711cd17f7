// Command httpd is a web server for files, split as OpenBSD would do it: the
// process that talks to the world cannot open a file, and the one that can
// talks to nobody but it.
//
//	             parent                    root; binds the port, opens the log,
//	 port, log  /      \                   starts the others (again)
//	           /        \
//	      server ------- files
//	 HTTP     |   name →                   user nobody in both
//	 clients ─┘   ← descriptor, 403, 404
//
//	server   in an empty directory: accepts connections from the descriptor of
//	         the port, appends to that of the log, reads those that it gets.
//	         It may use the network, and has no right to open any file. Taken
//	         over, it could still cut the log: who minds has a third role write.
//	files    in the document root: may open what is below it and read it. It
//	         gives away regular files only, and no name that begins with a dot.
//
// Which file says who does what: main.go the parent, server.go, handler.go
// and pool.go the server, files.go the files.
//
//	go run ./examples/httpd -root /var/www -listen :80 -log /var/log/httpd
//
// The document root must belong to root, if root starts it, and no others may
// write there. An ordinary user runs the same program, without the change of
// root and user. The server goes on for a second with a file that it has got:
// see pool.go.
//
// With -unsplit everything is done in one process, for comparison.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"example.org/imsg/privsep"
	"example.org/imsg/privsep/sandbox"
)

// options are the flags. The parent has them; the server is sent its part.
type options struct {
	Root, Listen, Log string

	Conns   int           // connections at a time; more wait
	Timeout time.Duration // for a request to arrive, and for the files to answer
}

func (o *options) parse(args []string) error {
	f := flag.NewFlagSet("httpd", flag.ExitOnError)
	unsplit := f.Bool("unsplit", false, "do everything in one process")
	f.StringVar(&o.Root, "root", ".", "`directory` of the documents")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes any")
	f.StringVar(&o.Log, "log", "", "`file` for the access log; standard error without")
	f.IntVar(&o.Conns, "conns", 512, "`number` of connections at a time")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "`time` for a request to arrive")
	f.Parse(args)
	if f.NArg() > 0 || o.Conns < 1 || o.Timeout <= 0 {
		f.Usage()
		os.Exit(2)
	}
	var err error
	if o.Root, err = filepath.Abs(o.Root); err == nil && *unsplit {
		err = o.unsplit()
		fmt.Fprintln(os.Stderr, "httpd:", err)
		os.Exit(1)
	}
	return err
}

// split declares the daemon. Children know nothing of the options: what they
// need of them, the parent tells them.
func split() *privsep.Daemon {
	o, s, f := new(options), new(server), new(files)
	d := &privsep.Daemon{
		Name: "httpd", User: "nobody",
		Roles: []privsep.Role{{
			Name: "server", Chroot: privsep.EmptyDir, Setup: s.setup, Run: s.run, Peers: []string{"files"}, OnExit: privsep.Restart,
			Sandbox: sandbox.Policy{Promises: "stdio inet recvfd"},
		}, {
			Name: "files", Run: f.run, OnExit: privsep.Restart,
			Sandbox: sandbox.Policy{Promises: "stdio rpath sendfd", Paths: []sandbox.Path{{Name: "/", Perm: "r"}}},
		}},
		Parent: o.parent,
	}
	d.Prepare = func(_ context.Context, p *privsep.Proc) error {
		if err := o.parse(os.Args[1:]); err != nil {
			return err
		}
		d.Roles[1].Chroot = o.Root
		return o.prepare(p)
	}
	return d
}

func main() { split().Main() } // the children begin here, too

// prepare opens what only root may open, for the server.
func (o *options) prepare(p *privsep.Proc) error {
	port, log, err := o.open()
	if err != nil {
		return err
	}
	p.AddFile("server", "port", port)
	if log != nil {
		p.AddFile("server", "log", log)
	}
	config, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return p.Configure("server", config)
}

// open binds the port and opens the log, which is nil for standard error.
func (o *options) open() (port, log *os.File, err error) {
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close() // port is a descriptor of its own
	o.Listen = ln.Addr().String()
	if port, err = ln.(*net.TCPListener).File(); err != nil || o.Log == "" {
		return port, nil, err
	}
	log, err = os.OpenFile(o.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		port.Close()
		return nil, nil, err
	}
	return port, log, nil
}

// parent has nothing to do but to say how things are: nobody may ask it for
// anything. Whatever ends is started again.
func (o *options) parent(ctx context.Context, p *privsep.Proc) error {
	for _, s := range p.Status() {
		fmt.Println(s)
	}
	fmt.Printf("listening on http://%s/\n", o.Listen)
	return p.Serve(ctx)
}

// unsplit does it all with the rights that it has. It returns an error only.
func (o *options) unsplit() error {
	root, err := os.OpenRoot(o.Root)
	if err != nil {
		return err
	}
	port, log, err := o.open()
	if err != nil {
		return err
	}
	s := &server{options: *o, log: log}
	if err := s.listen(port); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	fmt.Printf("listening on http://%s/\n", o.Listen)
	files := newPool(func(_ context.Context, name string) (*os.File, error) { return lookup(root, name) })
	if err := s.serve(ctx, files); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}
