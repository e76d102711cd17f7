//go:build !linux

package privsep

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// self is the program's file, found when it was started.
var self, _ = os.Executable()

func setTitle(string) {}

// keepFiles makes every descriptor above 2 close-on-exec: what the parent has
// inherited is not for the children. Not run.
func keepFiles() error { return eachFile(syscall.CloseOnExec) }

// monotonic is for systemd, which is not on these systems.
func monotonic() int64 { return 0 }

// killWithParent: a child sees the end of its channel.
func killWithParent() error       { return nil }
func limitProcesses(uint64) error { return nil }
func setOOMScore(int) error       { return errors.ErrUnsupported }
func limitMemory(int64) error     { return errors.ErrUnsupported }

// becomeReaper and endStrays: what a child leaves behind is the system's affair.
func becomeReaper(bool)              {}
func (s *supervisor) endStrays() int { return 0 }

func detachedRoot() (*os.File, error) { return nil, errors.ErrUnsupported }

func isHarmless() bool { return false }

// The starter and capabilities are Linux's.
func siblings() *syscall.SysProcAttr { return nil }
func capabilities() []string         { return nil }
func keepCapabilities(uint64) error  { return nil }

func capabilityBits(names []string) (uint64, error) {
	if names != nil {
		return 0, fmt.Errorf("capabilities: %w", errors.ErrUnsupported)
	}
	return 0, nil
}

// isFirstThread, restrictThread and newKeyring: what is inherited from a thread is Linux's.
func isFirstThread() bool      { return false }
func restrictThread() []string { return nil }
func newKeyring() error        { return nil }

func notRoot() string {
	if os.Geteuid() != 0 {
		return fmt.Sprintf("user %d is not root", os.Geteuid())
	}
	return ""
}

func cannotChroot() string                { return notRoot() }
func cannotKill() string                  { return notRoot() }
func cannotChangeIDs(uid, gid int) string { return notRoot() }
func cannotChangeGroups() string          { return notRoot() }

// readThreads: threads can be looked at on Linux only. Not run.
func readThreads(int) (map[threadState]int, error) { return nil, nil }

// setUndumpable: these systems protect processes that have changed ids from
// each other by themselves.
func setUndumpable() error { return nil }

func dumpable() bool { return false }

func rootOf(int) (os.FileInfo, error) { return nil, errors.ErrUnsupported }
