// Command mesh is a clock daemon of three processes, in the manner of OpenBSD's ntpd.
//
//	parent ---- engine ---- dns    the engine alone talks to the time server; it
//	                               asks for the address and to set the clock
//
//	go run ./examples/mesh -server time.example.org:37
//
// The parent keeps the right to set the time, and no other; the children run as nobody.
// (It says what it would do, and ends. The server answers a line with Unix seconds.)
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"example.org/imsg/peer"
	"example.org/imsg/privsep"
	"example.org/imsg/privsep/sandbox"
)

const (
	reqResolve uint32 = 1 + iota // engine to dns: a name
	repResolve                   // its address
	reqAdjust                    // engine to parent: by how much
	repAdjust
)

var daemon = privsep.Daemon{
	Name: "mesh", User: "nobody",
	Roles: []privsep.Role{
		{Name: "engine", Chroot: privsep.EmptyDir, Run: engine, Peers: []string{"dns"}, Sandbox: sandbox.Policy{Promises: "stdio inet"}},
		{Name: "dns", Run: resolver, Sandbox: sandbox.Policy{Promises: "stdio dns"}},
	},
	Prepare: func(_ context.Context, p *privsep.Proc) error {
		server := flag.String("server", "localhost:37", "host:port")
		flag.Parse()
		if flag.NArg() > 0 {
			return fmt.Errorf("unexpected argument %q", flag.Arg(0))
		}
		return p.Configure("engine", []byte(*server))
	},
	Parent: func(ctx context.Context, p *privsep.Proc) error {
		p.Handle("engine", peer.Rule{Type: reqAdjust, Once: true, Handle: adjust})
		return p.Serve(ctx)
	},
	ParentSandbox: sandbox.Policy{Promises: "stdio proc settime"}, ParentCapabilities: []string{"CAP_SYS_TIME"},
}

func main() { daemon.Main() }

// adjust is the parent's policy: no more than a day, once.
func adjust(_ context.Context, r *peer.Incoming) error {
	by, err := time.ParseDuration(string(r.Bytes()))
	if err != nil || by.Abs() > 24*time.Hour {
		return fmt.Errorf("not by %q", r.Bytes())
	}
	fmt.Println("the clock is to be set by", by)
	return r.Reply(repAdjust, nil)
}

func resolver(ctx context.Context, p *privsep.Proc) error {
	p.Handle("engine", peer.Rule{Type: reqResolve, Handle: func(ctx context.Context, r *peer.Incoming) error {
		list, err := (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip4", string(r.Bytes()))
		if err != nil {
			return err
		}
		return r.Reply(repResolve, nil, []byte(list[0].String()))
	}})
	return p.Serve(ctx)
}

func engine(ctx context.Context, p *privsep.Proc) error {
	host, port, err := net.SplitHostPort(string(p.Config()))
	if err != nil {
		return err
	}
	m, err := p.Peer("dns").Call(ctx, peer.Request{Type: reqResolve, Data: []byte(host), Ends: []uint32{repResolve}})
	if err != nil {
		return err
	}
	defer m.Close()
	conn, err := net.Dial("udp", net.JoinHostPort(string(m.Bytes()), port))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var seconds int64
	if _, err = fmt.Fprintln(conn, "?"); err == nil {
		_, err = fmt.Fscanln(bufio.NewReader(conn), &seconds)
	}
	if err != nil {
		return err
	}
	by := time.Until(time.Unix(seconds, 0)).Round(time.Minute)
	_, err = p.Parent().Call(ctx, peer.Request{Type: reqAdjust, Data: []byte(by.String()), Ends: []uint32{repAdjust}})
	return err
}
