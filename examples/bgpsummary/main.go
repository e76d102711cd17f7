// Command bgpsummary shows the neighbors of OpenBGPD and how many routes each
// sends.
//
//	go run ./examples/bgpsummary [-json] [-s SOCKET]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/control"
)

func main() {
	socket := flag.String("s", bgpd.DefaultSocket, "`path` of the daemon's socket")
	asJSON := flag.Bool("json", false, "print JSON")
	timeout := flag.Duration("timeout", 5*time.Second, "longest `time` to wait")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bgpsummary: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := run(ctx, os.Stdout, *socket, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bgpsummary:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, socket string, asJSON bool) error {
	c, err := bgpd.Dial(ctx, socket, nil)
	if err != nil {
		return err
	}
	neighbors, err := c.Summary(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(neighbors)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NEIGHBOR\tAS\tRECEIVED\tSENT\tQUEUED\tSINCE\tSTATE")
	for _, n := range neighbors {
		since := "never"
		if !n.LastChange.IsZero() {
			since = time.Since(n.LastChange).Round(time.Second).String()
		}
		state := n.State.String()
		switch {
		case n.State == bgpd.Established && n.MaxPrefix != 0:
			state = fmt.Sprintf("%d/%d", n.Prefixes, n.MaxPrefix)
		case n.State == bgpd.Established:
			state = fmt.Sprint(n.Prefixes)
		case n.Down:
			state += ", down"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", control.Printable(n.Name), n.RemoteAS, n.Received, n.Sent, n.OutQ, since, state)
	}
	return t.Flush()
}
