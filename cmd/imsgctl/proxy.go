package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"example.org/imsg"
	"example.org/imsg/internal/relay"
)

// A proxyCommand is a command line of proxy.
type proxyCommand struct {
	a     *app
	flags relayFlags
	mode  string
	move  bool
}

func newProxyCommand(a *app) *cobra.Command {
	p := &proxyCommand{a: a}
	c := &cobra.Command{
		Use:   "proxy LISTEN TARGET | --move SOCKET",
		Short: "Stand between a daemon and its clients, and show what they say",
		Long: `Proxy listens at LISTEN, connects to the daemon at TARGET for every client, and
passes messages on as they are, with their files, until it is interrupted. Each
one is shown. Clients must be told to use LISTEN; a name with @ in front is an
abstract one. LISTEN gets the mode and the owner of TARGET.

With --move the proxy takes the place of SOCKET itself, without a moment in which
nobody answers there, and gives it back at the end. Clients that were connected
before are not seen. When the daemon ends, its place is given back until it runs
again. If the proxy is killed with SIGKILL, the next one puts the socket back, or
"imsgctl doctor --fix SOCKET" does: clients are refused until then.

The daemon sees the user, group and process id of the proxy, not the clients': if
it asks for these (tmux does), run the proxy as the same user. Whoever may connect
to LISTEN is served with the proxy's rights. When the proxy ends, so do the
connections that it serves.`,
		Example: `  imsgctl proxy /tmp/p /run/bgpd.sock.0     and then: bgpctl -s /tmp/p show
  imsgctl proxy --move /run/bgpd.sock.0 -w bgpd.pcapng
  imsgctl proxy /tmp/p /tmp/tmux-1000/default -f 'type == COMMAND' --json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch want := map[bool]int{false: 2, true: 1}[p.move]; {
			case len(args) == want:
				return nil
			case p.move:
				return usagef("--move takes the path of one socket")
			}
			return usagef("two addresses are needed: where to listen, and the daemon's")
		},
		RunE: func(c *cobra.Command, args []string) error { return p.run(c.Context(), args) },
	}
	p.flags.add(c)
	c.Flags().BoolVar(&p.move, "move", false, "take the place of the daemon's socket")
	c.Flags().StringVar(&p.mode, "mode", "", "mode of LISTEN in `OCTAL`, such as 0660, instead of TARGET's")
	return c
}

func (p *proxyCommand) run(ctx context.Context, args []string) error {
	lc := &imsg.ListenConfig{RemoveStale: true}
	target := args[len(args)-1]
	if p.mode != "" {
		mode, err := strconv.ParseUint(p.mode, 8, 32)
		switch {
		case err != nil || mode == 0 || mode > 0o777:
			return usagef("--mode %q: octal digits, 0001 to 0777", p.mode)
		case p.move:
			return usagef("--mode and --move: the socket keeps its mode")
		case isAbstract(args[0]):
			return usagef("--mode: the abstract name %s has none", args[0])
		}
		lc.Mode = fs.FileMode(mode)
	}
	if !p.move && sameSocket(args[0], target) {
		return usagef("%s is the daemon's own socket: use --move %s", args[0], target)
	}
	if info, err := os.Stat(target); err == nil && !isAbstract(target) && info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is no socket", target)
	}
	ctx, t, err := p.flags.open(ctx, p.a, target)
	if err != nil {
		return err
	}
	if p.move {
		return t.close(p.inPlace(ctx, t, target))
	}
	return t.close(p.beside(ctx, t, lc, args[0], target))
}

func (p *proxyCommand) inPlace(ctx context.Context, t *tap, socket string) error {
	err := t.ServeInPlace(ctx, socket, func(m *relay.Move) {
		t.out.summary = true
		p.say("in the place of %s, which is %s meanwhile; Ctrl-C gives it back", m.Path(), m.Target())
	})
	if err == nil {
		p.say("%s is given back", socket)
	}
	return err
}

func (p *proxyCommand) beside(ctx context.Context, t *tap, lc *imsg.ListenConfig, listen, target string) error {
	l, err := p.listen(ctx, t, lc, listen, target)
	if err != nil {
		return err
	}
	defer l.Close()
	t.out.summary = true
	p.say("%s stands in front of %s; Ctrl-C ends it", listen, target)
	if err = t.Serve(ctx, l, target); ctx.Err() != nil {
		return nil
	}
	return err
}

// listen makes the socket for clients.
func (p *proxyCommand) listen(ctx context.Context, t *tap, lc *imsg.ListenConfig, listen, target string) (*imsg.Listener, error) {
	if isAbstract(listen) {
		return lc.Listen(ctx, listen, t.ConnConfig())
	}
	info, err := os.Stat(target)
	switch {
	case isAbstract(target):
	case err != nil:
		p.say("%v: clients are closed until it is there", err)
	default:
		lc.Owner = owner(info)
	}
	if lc.Mode == 0 {
		if lc.Mode = 0o600; err == nil {
			lc.Mode = info.Mode().Perm()
		}
	}
	l, err := lc.Listen(ctx, listen, t.ConnConfig())
	if errors.Is(err, syscall.EPERM) && lc.Owner != nil {
		p.say("%s has not the owner of %s: only root can give it away", listen, target)
		lc.Owner = nil
		l, err = lc.Listen(ctx, listen, t.ConnConfig())
	}
	return l, err
}

func (p *proxyCommand) say(format string, args ...any) {
	p.a.complain(p.a.running, fmt.Errorf(format, args...))
}

// owner returns who owns a file.
func owner(info fs.FileInfo) *imsg.Owner {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return &imsg.Owner{UID: int(st.Uid), GID: int(st.Gid)}
	}
	return nil
}

func isAbstract(address string) bool { return len(address) > 0 && address[0] == '@' }

// sameSocket reports whether two addresses are the same.
func sameSocket(a, b string) bool {
	x, xerr := os.Stat(a)
	y, yerr := os.Stat(b)
	if xerr == nil && yerr == nil {
		return os.SameFile(x, y)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}
