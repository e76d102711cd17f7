// Command ntpstat shows what OpenNTPD knows about the clock, and exits with status
// 0 if it is synced, 1 if not, and 2 if the daemon does not tell.
//
//	go run ./examples/ntpstat [-json] [-s SOCKET]
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

	"example.org/imsg/proto/control"
	"example.org/imsg/proto/ntpd"
)

func main() {
	socket := flag.String("s", ntpd.DefaultSocket(), "`path` of the daemon's socket")
	asJSON := flag.Bool("json", false, "print JSON; durations are in nanoseconds")
	timeout := flag.Duration("timeout", 5*time.Second, "longest `time` to wait")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "ntpstat: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	all, err := ask(ctx, *socket)
	if err == nil {
		err = show(os.Stdout, all, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ntpstat:", err)
		os.Exit(2)
	}
	if !all.Status.Synced {
		os.Exit(1)
	}
}

func ask(ctx context.Context, socket string) (ntpd.All, error) {
	c, err := ntpd.Dial(ctx, socket, nil)
	if err != nil {
		return ntpd.All{}, err
	}
	return c.All(ctx)
}

func show(w io.Writer, all ntpd.All, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(all)
	}
	s := all.Status
	state := "unsynced"
	if s.Synced {
		state = fmt.Sprintf("synced, stratum %d", s.Stratum)
	}
	fmt.Fprintf(w, "clock %s, offset %v, %d of %d peers valid\n", state, s.ClockOffset, s.ValidPeers, s.Peers)
	if d, ok := s.ConstraintOffset(); ok {
		fmt.Fprintf(w, "constraints are ahead by %v\n", d)
	}
	if len(all.Peers) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPEER\tWEIGHT\tTRUST\tSTRATUM\tNEXT\tPOLL\tOFFSET\tDELAY\tJITTER")
	for _, p := range all.Peers {
		name := control.Printable(p.Name)
		if p.SyncedTo {
			name = "*" + name
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%v\t%v\t", name, p.Weight, p.TrustLevel, p.Stratum, p.Next, p.Poll)
		if p.Valid() {
			fmt.Fprintf(t, "%v\t%v\t%v\n", p.Offset, p.Delay, p.Jitter)
		} else {
			fmt.Fprintln(t, "-\t-\t-")
		}
	}
	return t.Flush()
}
