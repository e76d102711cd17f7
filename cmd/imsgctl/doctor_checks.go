package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"example.org/imsg"
	"example.org/imsg/internal/relay"
	"example.org/imsg/proto/tmux"
)

// leftover finds, and with --fix mends, what "proxy --move" has left.
func (c *doctorCommand) leftover(d *diagnosis) error {
	left, err := relay.FindLeftover(d.Address)
	switch {
	case err != nil:
		d.warn("move", "look at it as root", "the note of imsgctl proxy --move cannot be read: %v", err)
		return nil
	case left == nil:
		return nil
	case left.Alive:
		d.note("move", "", "%v", left)
		return nil
	}
	if !c.fix && !(c.a.inTTY && c.a.errTTY && !c.json && c.ask(fmt.Sprintf("%v. Put it back?", left))) {
		d.moved = true
		d.warn("move", "imsgctl doctor --fix "+shellWord(left.Path)+" puts it back", "%v", left)
		return nil
	}
	did, err := relay.PutBack(left.Path)
	if err != nil {
		return fmt.Errorf("putting the socket back: %w", err)
	}
	if did == "" {
		did = "removed the note " + left.Note
	}
	d.note("move", "", "a killed imsgctl proxy --move: %s", did)
	return nil
}

// look tells what the file of the socket is, and who can get at it.
func (d *diagnosis) look() {
	path, err := filepath.Abs(d.Address)
	if err == nil {
		d.Path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		d.Path = cmp.Or(path, d.Address) // in a directory that was removed there is no absolute one
	}
	d.Folders = folders(filepath.Dir(d.Path))
	info, err := os.Lstat(d.Path)
	if err != nil {
		return // connecting tells
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	d.Mode, d.perm, d.uid, d.gid = octal(info.Mode()), uint32(info.Mode().Perm()), st.Uid, st.Gid
	d.Owner, d.Group = userName(st.Uid), groupName(st.Gid)
	if info.Mode().Type() != fs.ModeSocket {
		return
	}
	reached := true // by every user
	for _, f := range d.Folders {
		reached = reached && f.perm&0o001 != 0
		switch {
		case f.perm&0o002 != 0 && f.perm&uint32(fs.ModeSticky) == 0:
			d.warn("folder", "chmod o-w "+shellWord(f.Path), "every user can write to %s: whoever likes can put a socket of his own in the place of this one", f.Path)
		case f.perm&0o002 != 0 && f.Path == filepath.Dir(d.Path):
			d.note("folder", "use a folder that only the daemon's user can write to", "every user can write to %s: while the daemon does not run, whoever likes can listen at this name", f.Path)
		case f.uid != 0 && f.uid != d.uid:
			d.warn("folder", "chown it to root or to "+d.Owner, "%s belongs to %s, who can put a socket of his own in the place of this one", f.Path, f.Owner)
		}
	}
	switch everybody := d.perm&0o002 != 0; {
	case everybody && reached:
		d.warn("mode", "chmod 0660 "+shellWord(d.Path)+", and the group of those who may; where it is meant so, as with OpenBGPD's restricted socket, the daemon must refuse what they must not do",
			"every user of this machine can connect: the socket's mode is %s", d.Mode)
	case everybody:
		d.note("mode", "", "the socket's mode is %s, but not every user gets through the folders above", d.Mode)
	}
}

// folders are dir and those above.
func folders(dir string) (all []folder) {
	for {
		if info, err := os.Stat(dir); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				all = append(all, folder{dir, octal(info.Mode()), userName(st.Uid), groupName(st.Gid),
					uint32(info.Mode().Perm() | info.Mode()&fs.ModeSticky), st.Uid})
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return all
		}
		dir = up
	}
}

func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	for _, bit := range []struct {
		mode fs.FileMode
		n    uint32
	}{{fs.ModeSticky, 0o1000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSetuid, 0o4000}} {
		if m&bit.mode != 0 {
			n |= bit.n
		}
	}
	return fmt.Sprintf("%04o", n)
}

// connect makes a connection, on which it says nothing, and looks at who is at
// the other end.
func (d *diagnosis) connect(ctx context.Context) {
	d.Holders = listeners(d.Address, d.Path)
	conn, err := imsg.Dial(ctx, d.Address, nil)
	if err != nil {
		d.refused(err)
		return
	}
	cred, err := conn.PeerCred()
	conn.Close()
	if err != nil {
		d.note("daemon", "", "who listens there is not known: %v", err)
		return
	}
	if cred.PID == 0 {
		d.note("namespace", "run imsgctl in the daemon's namespace, or in the first one: nsenter -t PID -a", "the daemon's process cannot be seen from here: it is in another namespace of processes")
	}
	p := processOf(cred.PID)
	p.uid, p.User, p.Group = cred.UID, userName(cred.UID), groupName(cred.GID)
	d.Listener = &p
	for _, q := range append([]process{p}, d.Holders...) {
		if q.Replaced {
			d.warn("program", "restart the daemon; until then, use clients of its own version: /proc/"+strconv.Itoa(q.PID)+"/exe is its program",
				"%s[%d] runs a program that was replaced since it was started: it may speak another dialect, or another protocol, than the clients that are installed now", q.Name, q.PID)
			break
		}
	}
	d.stopped()
	d.namespaces(p.PID)
	d.dialect(ctx, &p)
	d.tracing(p.PID)
}

// stopped tells when none of the daemon's processes can accept.
func (d *diagnosis) stopped() {
	for _, p := range d.Holders {
		if p.State == "" {
			return
		}
	}
	for _, p := range d.Holders {
		if p.State == "stopped" {
			d.warn("daemon", fmt.Sprintf("kill -CONT %d", p.PID), "%s[%d] is stopped: clients wait", p.Name, p.PID)
		}
	}
}

// refused tells why there is no connection.
func (d *diagnosis) refused(err error) {
	d.Dialect, d.Reason = "unknown", "there is no connection"
	if e, ok := errors.AsType[*imsg.OpError](err); ok {
		err = e.Err
	}
	info, serr := os.Lstat(d.Path)
	switch {
	case isAbstract(d.Address) && errors.Is(err, syscall.ECONNREFUSED):
		d.warn("connect", "start the daemon; or, if it runs in a container or in a unit with PrivateNetwork=, run imsgctl there: nsenter -t PID -n imsgctl doctor "+shellWord(d.Address),
			"nobody listens at %s: abstract names are those of one network namespace", d.Address)
	case errors.Is(err, fs.ErrNotExist):
		d.warn("connect", "start the daemon, or look at which path its configuration has; ss -xl lists who listens", "there is no %s", d.Path)
	case serr == nil && info.Mode().Type() != fs.ModeSocket:
		d.warn("connect", "look at which path the daemon's configuration has", "%s is no socket: %v", d.Path, info.Mode())
	case errors.Is(err, syscall.ECONNREFUSED) && d.moved: // the warning of that has the cure
	case errors.Is(err, syscall.ECONNREFUSED):
		d.warn("connect", "start the daemon; if it then says that the address is in use: rm "+shellWord(d.Path), "nobody listens at %s: it is left of a process that has ended", d.Path)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		who := "root"
		if d.Owner != "" && d.Owner != who {
			who += ", as " + d.Owner
		}
		if d.perm&0o020 != 0 {
			who += ", or as a member of the group " + d.Group
		}
		d.warn("connect", "run as "+who, "%s: this user (%s) may not connect", d.Path, userName(uint32(os.Geteuid())))
	case errors.Is(err, syscall.EPROTOTYPE):
		d.warn("connect", "this is no imsg socket", "%s is a socket of another kind: imsg needs SOCK_STREAM", d.Path)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		d.stopped()
		d.warn("connect", "if it is not stopped, see what it does: imsgctl trace -p PID, or gdb", "%s: as many clients wait to be accepted as can: the daemon is stuck, or stopped", d.Address)
	default:
		d.warn("connect", "", "%v", err)
	}
}

// dialect tells what the daemon speaks, as far as that is known without
// harming it.
func (d *diagnosis) dialect(ctx context.Context, p *process) {
	d.Dialect, d.Reason = "either", "on this machine only a message with a file, or of more than 65535 bytes, tells, and a daemon sends none unasked"
	if p.Name == "tmux" && p.State != "" {
		d.Reason = "the server is " + p.State + ", and cannot be asked"
		return
	}
	switch p.Name {
	case "tmux":
		d.tmux(ctx, p)
	case "imsgctl":
		d.Reason = "the listener is imsgctl, which learns it from either side"
	case "bgpd":
		d.Reason = "OpenBGPD 8.7 (December 2024) and later speak current, with up to 131088 bytes, earlier ones legacy: for its clients both are the same up to 65535 bytes"
	case "ntpd":
		d.Reason = "OpenNTPD 7.9 and later speak current, earlier ones legacy: for its clients both are the same"
		d.MaxSize = imsg.DefaultMaxSize
	}
}

// tmux asks a tmux server for its version, and compares the client's.
func (d *diagnosis) tmux(ctx context.Context, p *process) {
	d.MaxSize = imsg.DefaultMaxSize
	c, err := tmux.Dial(ctx, d.Address, nil)
	if err != nil {
		d.warn("tmux", "", "the tmux server does not tell its version: %v", err)
		return
	}
	d.Program, d.Dialect, d.Reason = "tmux "+c.Version(), c.Dialect().String(), "as its version tells"
	major, minor := tmuxNumber(c.Version())
	if major == 3 && minor < 7 || major < 3 && major > 0 {
		d.note("tmux", "tmux 3.7 or later has the fault mended; until then, programs should send what an attach has in one write, as package proto/tmux does",
			"a control client (tmux -C) that breaks off while it attaches ends this server, with all sessions")
	}
	path, err := exec.LookPath("tmux")
	if err != nil {
		return
	}
	out, err := exec.CommandContext(ctx, path, "-V").Output()
	client := strings.TrimSpace(strings.TrimPrefix(string(out), "tmux "))
	cmajor, cminor := tmuxNumber(client)
	if err != nil || cmajor == 0 || major == 0 {
		return
	}
	legacy := func(major, minor int) bool { return major < 3 || major == 3 && minor < 6 }
	if server := legacy(major, minor); server != legacy(cmajor, cminor) {
		d.warn("dialect", fmt.Sprintf("restart the server (tmux kill-server ends its sessions), or use its own client: /proc/%d/exe attach", p.PID),
			"the server is tmux %s and speaks %s, but %s is tmux %s and speaks the other dialect: its attach says \"open terminal failed: not a terminal\"", c.Version(), d.Dialect, path, client)
	}
}

// tmuxNumber reads a version such as "3.5a" or "next-3.8"; 0 if it has none.
func tmuxNumber(version string) (major, minor int) {
	fmt.Sscanf(strings.TrimPrefix(version, "next-"), "%d.%d", &major, &minor)
	return major, minor
}
