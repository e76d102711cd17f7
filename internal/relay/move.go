package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"example.org/imsg/internal/unixmsg"
)

// How a relay takes a daemon's place, and gives it back.
//
// The relay listens at a name beside the daemon's socket, PATH.moved, and then
// exchanges the two names in one step: there is no time at which nobody answers
// at PATH. Giving back is the same exchange. A note file, PATH.imsgctl, says
// what was done. It is locked for as long as the relay lives, so that after
// kill -9 the next run, or imsgctl doctor --fix, can tell that it is left over.
//
//	            taken           given back
//	PATH        ours            the daemon's
//	PATH.moved  the daemon's    -
//
// Only what has the device and inode number of the note is touched: a daemon
// that has made its socket anew keeps it.

const (
	movedSuffix = ".moved"
	noteSuffix  = ".imsgctl"
)

// ErrMoveUnsupported is returned by Take where names cannot be exchanged.
var ErrMoveUnsupported = errors.New("taking the place of a socket needs renameat2(2) of Linux, and a file system that has it")

// A Leftover is what a relay that took the place of a socket has left there.
type Leftover struct {
	Path  string // of the socket, without symbolic links
	Moved string // where the daemon's socket is
	Note  string // the note's path
	PID   int    // of the relay
	Alive bool   // it still runs, and nothing is wrong
}

// String says what there is.
func (l *Leftover) String() string {
	if l.Alive {
		return fmt.Sprintf("imsgctl (process %d) stands in the place of %s: the daemon's socket is %s", l.PID, l.Path, l.Moved)
	}
	return fmt.Sprintf("imsgctl (process %d) has taken the place of %s and ended without giving it back: see %s", l.PID, l.Path, l.Note)
}

// A BusyError is a socket whose place another relay has taken.
type BusyError struct{ Leftover *Leftover }

// Error names the other one.
func (e *BusyError) Error() string { return e.Leftover.String() }

// tick is how often a relay in a daemon's place looks whether all is as it
// should be. A daemon that is started again must find its socket as it has left
// it: OpenBGPD does not start while somebody listens there.
const tick = 100 * time.Millisecond

// ServeInPlace is Serve in the place of the daemon's socket at path, until ctx
// ends. When the daemon ends, the place is given back, and taken again when the
// daemon is back. ready, if not nil, is called when the place is taken first.
func (r *Relay) ServeInPlace(ctx context.Context, path string, ready func(*Move)) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	m, err := Take(ctx, path, r.ConnConfig())
	if err != nil {
		return err
	}
	if ready != nil {
		ready(m)
	}
	for {
		l, target := m.Listener(), m.Target()
		serving.Go(func() { r.Serve(ctx, l, target) })
		lost := r.watch(ctx, m)
		if err := m.GiveBack(); lost == nil || err != nil {
			return errors.Join(lost, err)
		}
		r.cfg.Report(fmt.Errorf("%w: waiting for it", lost))
		if m = r.takeAgain(ctx, path); m == nil {
			return nil
		}
		r.cfg.Report(fmt.Errorf("%s: the daemon is back", path))
	}
}

// watch returns when the place is lost, and why, or nil when ctx has ended.
func (r *Relay) watch(ctx context.Context, m *Move) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.unreachable:
		case <-t.C:
		}
		if err := m.Lost(); err != nil {
			return err
		}
	}
}

// takeAgain waits until a daemon's socket has been at path for a while, so that
// its mode is what it shall be, and takes its place. It returns nil when ctx has
// ended.
func (r *Relay) takeAgain(ctx context.Context, path string) *Move {
	t := time.NewTicker(tick)
	defer t.Stop()
	said := ""
	for before := fs.FileInfo(nil); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now, err := os.Lstat(path)
		if bound, berr := unixmsg.Bound(path); err != nil || berr != nil || !bound {
			before = nil
			continue
		}
		if before != nil && os.SameFile(before, now) && before.Mode() == now.Mode() {
			m, err := Take(ctx, path, r.ConnConfig())
			if err == nil {
				return m
			}
			if said != err.Error() && ctx.Err() == nil {
				said = err.Error()
				r.cfg.Report(err)
			}
		}
		before = now
	}
}
