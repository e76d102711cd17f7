// Command sessions is a daemon with a process for each connection, as sshd has:
// what one client does to its process reaches neither the others nor the parent.
//
//	go run ./examples/sessions -listen 127.0.0.1:7777 -greeting /etc/motd
//	echo hello | nc 127.0.0.1 7777
//
// The parent listens, reads the greeting, and has a process started for each
// connection, which gets the connection and the greeting and nothing else: it runs as
// nobody, in an empty directory, and can open neither files nor sockets. The parent
// has no capabilities but to end it, can open no sockets, and accepts on the one that
// it has. At SIGHUP it reads the greeting again, for later connections.
//
// Under systemd, Type=notify-reload, WatchdogSec= and a socket unit work as they are.
// With FileDescriptorStoreMax=1, and without a socket unit, the socket stays open
// when the daemon is restarted: who connects meanwhile waits.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"example.org/imsg/privsep"
	"example.org/imsg/privsep/sandbox"
)

var daemon = privsep.Daemon{
	Name: "sessions", User: "nobody", Chroot: privsep.EmptyDir,
	Roles: []privsep.Role{{
		Name: "session", OnDemand: true, Instances: 100, Run: session,
		Sandbox: sandbox.Policy{Promises: "stdio"},
	}},
	ParentSandbox:      sandbox.Policy{Promises: "stdio rpath inet proc sendfd recvfd", Ports: []sandbox.Port{}}, // accept, no more
	ParentCapabilities: []string{},

	Prepare: prepare,
	Parent:  serve,
	Reload:  func(_ context.Context, p *privsep.Proc) error { return configure(p) },
}

func main() { daemon.Main() } // the sessions begin here too

var (
	greeting = flag.String("greeting", "", "file with what clients see first")
	address  = flag.String("listen", "127.0.0.1:0", "address, unless the service manager has opened it")
	listener net.Listener
)

// prepare reads the flags, which children do not have, and opens the port.
func prepare(_ context.Context, p *privsep.Proc) (err error) {
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	for _, list := range p.Listeners() {
		if listener, err = net.FileListener(list[0]); err != nil {
			return err
		}
	}
	if listener == nil {
		if listener, err = net.Listen("tcp", *address); err != nil {
			return err
		}
		f, err := listener.(*net.TCPListener).File()
		if err != nil {
			return err
		}
		defer f.Close()
		if err := p.StoreFile("listener", f); err != nil { // for the next start of the daemon
			return err
		}
	}
	return configure(p)
}

// configure is what a reload does: sessions that are started from now on have it.
func configure(p *privsep.Proc) (err error) {
	text := []byte("hello\n")
	if *greeting != "" {
		if text, err = os.ReadFile(*greeting); err != nil {
			return err
		}
	}
	return p.Configure("session", text)
}

// serve starts a process for each connection.
func serve(ctx context.Context, p *privsep.Proc) error {
	p.Notify("STATUS=listening on " + listener.Addr().String())
	p.Logger().Info("listening", "address", listener.Addr().String())
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go start(ctx, p, conn)
	}
}

// start starts a session, and logs how it ended.
func start(ctx context.Context, p *privsep.Proc, conn net.Conn) {
	defer conn.Close() // the session has its own descriptor
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		p.Logger().Error("no session", "err", err)
		return
	}
	child, err := p.Start(ctx, "session", privsep.Given{Files: map[string]*os.File{"conn": f}})
	f.Close()
	if err == nil {
		conn.Close()
		err = child.Wait(context.WithoutCancel(ctx))
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		p.Logger().Warn("session", "client", conn.RemoteAddr().String(), "err", err)
	}
}

// session is the process of one connection: it returns what it is sent, by line.
func session(ctx context.Context, p *privsep.Proc) error {
	conn := p.File("conn") // reads and writes need no promise but stdio
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	if _, err := conn.Write(p.Config()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := fmt.Fprintf(conn, "%s\n", lines.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
