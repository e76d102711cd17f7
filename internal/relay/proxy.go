package relay

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

// Serve passes messages on between each client of l and a connection of its own
// to target, until ctx ends, which ends all of them, or l is closed, which lets
// them finish. l's Conns must be made with ConnConfig. A client is closed when
// target cannot be reached, which is reported. The error is
// imsg.Listener.Serve's.
func (r *Relay) Serve(ctx context.Context, l *imsg.Listener, target string) error {
	return l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) { r.serve(ctx, c, target) })
}

// dialLimit is how long a client waits for a target that does not accept.
const dialLimit = 10 * time.Second

func (r *Relay) serve(ctx context.Context, c *imsg.Conn, target string) {
	channel := r.nextChannel()
	client := End{c, Peer(c)}
	dctx, cancel := context.WithTimeout(ctx, dialLimit)
	t, err := imsg.Dial(dctx, target, r.ConnConfig())
	cancel()
	if err != nil {
		select {
		case r.unreachable <- struct{}{}:
		default:
		}
		if ctx.Err() == nil {
			r.cfg.Report(&TargetError{channel, client.Who, target, err})
		}
		hangUp(c)
		drain(c, make([]imsg.Message, 1))
		return
	}
	defer t.Close()
	r.pipe(ctx, channel, client, End{t, Peer(t)})
}

// A TargetError is a client that was closed because the target could not be
// reached.
type TargetError struct {
	Channel int
	Client  capture.Endpoint
	Target  string
	Err     error
}

// Error says what to do.
func (e *TargetError) Error() string {
	cure := ""
	switch {
	case errors.Is(e.Err, syscall.ENOENT):
		cure = " (the daemon does not run, or uses another path)"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		cure = " (the daemon has ended: start it again)"
	case errors.Is(e.Err, syscall.EACCES), errors.Is(e.Err, syscall.EPERM):
		cure = " (run the proxy as a user who may connect)"
	case errors.Is(e.Err, context.DeadlineExceeded):
		cure = " (the daemon accepts no connections: it is stopped or stuck)"
	}
	return fmt.Sprintf("channel %d: %s is closed: %v%s", e.Channel, Process(e.Client), e.Err, cure)
}

// Unwrap returns Err.
func (e *TargetError) Unwrap() error { return e.Err }
