package tmux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg"
)

// A Command is one command line of tmux with the files it uses.
type Command struct {
	// Args are the arguments as on tmux's own command line: one that is ";",
	// or ends with it, ends a command, and another one follows. Together they
	// have at most 16364 bytes, counting a NUL for each.
	Args []string

	// Stdin is what the command reads (load-buffer -, source-file -); nil is
	// empty. A Read that has begun when the command ends is waited for only
	// for a tenth of a second: what it reads later is lost.
	Stdin io.Reader

	// Stdout and Stderr take what the command prints; nil discards it. An
	// error of theirs ends the command.
	Stdout, Stderr io.Writer

	// Control makes it a control client, as tmux -C does: lines of Stdin are
	// commands, Stdout gets replies and notifications. The server never gets
	// Stdin and Stdout themselves but pipes, which it may make non-blocking.
	Control bool
}

// Exec runs a command and returns its exit status. The error is an *Error; it
// is nil if the conversation succeeded, whatever the status is.
func (c *Client) Exec(ctx context.Context, cmd *Command) (status int, err error) {
	if cmd.Control {
		status, err = c.execControl(ctx, cmd)
	} else {
		status, err = c.converse(ctx, c.dialect, cmd)
	}
	return status, c.fail("run", err)
}

// converse has the conversation of a command that is no control client.
func (c *Client) converse(ctx context.Context, d imsg.Dialect, cmd *Command) (int, error) {
	v, err := c.begin(ctx, d, cmd, nil, nil)
	if err != nil {
		return 0, err
	}
	err = v.serve(ctx)
	return v.status, err
}

// maxStreams is how many files a command may have open at a time; tmux needs
// two or three.
const maxStreams = 64

// A conversation is one connection with one command.
type conversation struct {
	cmd     *Command
	conn    *imsg.Conn
	open    func(name string, flag int, perm os.FileMode) (*os.File, error)
	streams map[int32]*writeStream
	ending  bool // the server has said that the command is over
	status  int
	reason  string // why a client that was attached ends

	stdin   sync.Mutex // held while Stdin is read
	readers sync.WaitGroup
	hasRead bool                   // there were any
	mu      sync.Mutex             // guards the rest
	reading map[int32]*atomic.Bool // set to stop one
	readErr error
}

// A writeStream is a file that the server writes.
type writeStream struct {
	w io.Writer
	c io.Closer // nil for Stdout and Stderr
}

// begin connects and sends the command.
func (c *Client) begin(ctx context.Context, d imsg.Dialect, cmd *Command, in, out *os.File) (*conversation, error) {
	command, err := newCommand(cmd.Args)
	if err != nil {
		return nil, err
	}
	conn, err := imsg.Dial(ctx, c.socket, &imsg.Config{Dialect: d, AllowFDPass: in != nil})
	if err != nil {
		return nil, err
	}
	id := identity{dir: c.cfg.Dir, env: c.cfg.Env, in: in, out: out, command: command}
	if id.dir == "" {
		id.dir, _ = os.Getwd()
	}
	if id.env == nil {
		id.env = os.Environ()
	}
	if err := id.send(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return &conversation{cmd: cmd, conn: conn, open: c.cfg.OpenFile}, nil
}

// serve answers the server until the command has ended.
func (v *conversation) serve(ctx context.Context) (err error) {
	defer func() {
		v.conn.Close()
		if v.hasRead {
			fed := make(chan struct{})
			go func() {
				v.readers.Wait()
				close(fed)
			}()
			waitShortly(fed)
		}
		for _, s := range v.streams {
			if s.c != nil {
				s.c.Close()
			}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.ending && hungUp(err) { // kill-server, for example: what is missing is a courtesy
			err = nil
		}
		if err == nil {
			err = v.readErr
		}
	}()
	for m, err := range v.conn.All(ctx) {
		if err != nil {
			return err
		}
		done, err := v.handle(ctx, m)
		m.Close()
		if done || err != nil {
			return err
		}
	}
	return io.ErrUnexpectedEOF
}

func (v *conversation) send(ctx context.Context, typ uint32, fields ...any) error {
	return v.conn.Send(ctx, header(typ), nil, encode(fields...))
}

// handle acts on one message of the server. done says that it was the last.
func (v *conversation) handle(ctx context.Context, m imsg.Message) (done bool, err error) {
	if v := uint8(m.ID()); v != protocolVersion || m.Type() == msgVersion {
		return true, &VersionError{v}
	}
	if m.Type() > msgVersion && m.Type() <= msgCommand {
		return true, errEcho
	}
	p, known, err := decode(m.Type(), m.Bytes())
	if err != nil || !known {
		return false, err // as tmux does; also EXEC, SHELL and LOCK, which would make a client run what the server says
	}
	switch m.Type() {
	case msgExit, msgShutdown:
		v.ending = true
		v.status = int(p.number[0])
		if m.Type() == msgShutdown {
			v.status, v.reason = 1, "server exited"
		}
		if len(p.data) > 0 {
			v.reason = string(p.data)
		}
		return false, v.send(ctx, msgExiting)
	case msgDetach, msgDetachKill:
		v.ending = true
		v.reason = fmt.Sprintf("detached (from session %s)", p.data)
		return false, v.send(ctx, msgExiting)
	case msgExited:
		return true, nil
	case msgSuspend:
		if v.cmd.Control {
			v.reason, err = "suspended", errSuspended
		}
	case msgReady:
		return false, v.send(ctx, msgResize)
	case msgReadOpen:
		return false, v.read(ctx, p.number[0], p.number[1], string(p.data))
	case msgReadCancel:
		v.mu.Lock()
		if stop := v.reading[p.number[0]]; stop != nil {
			stop.Store(true)
		}
		v.mu.Unlock()
	case msgWriteOpen:
		err := v.create(p.number[0], p.number[1], int(p.number[2]), string(p.data))
		return false, v.send(ctx, msgWriteReady, p.number[0], errno(err))
	case msgWrite:
		if s := v.streams[p.number[0]]; s != nil && len(p.data) > 0 {
			_, err = s.w.Write(p.data)
		}
	case msgWriteClose:
		if s := v.streams[p.number[0]]; s != nil && s.c != nil {
			err = s.c.Close()
		}
		delete(v.streams, p.number[0])
	}
	return false, err
}

// create opens what the server wants to write to.
func (v *conversation) create(stream, fd int32, flags int, path string) error {
	if v.streams[stream] != nil {
		return syscall.EEXIST
	}
	if len(v.streams) >= maxStreams {
		return syscall.EMFILE
	}
	s := &writeStream{w: io.Discard}
	switch {
	case fd == 1 && v.cmd.Stdout != nil && !v.cmd.Control:
		s.w = v.cmd.Stdout
	case fd == 2 && v.cmd.Stderr != nil:
		s.w = v.cmd.Stderr
	case fd == -1:
		f, err := v.openFile(path, flags&(os.O_APPEND|os.O_TRUNC|os.O_EXCL)|os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		s.w, s.c = f, f
	}
	if v.streams == nil {
		v.streams = make(map[int32]*writeStream)
	}
	v.streams[stream] = s
	return nil
}

func (v *conversation) openFile(path string, flags int) (*os.File, error) {
	if v.open == nil {
		return nil, syscall.EPERM
	}
	return v.open(path, flags, 0o644)
}

// read starts to send a file, or Stdin.
func (v *conversation) read(ctx context.Context, stream, fd int32, path string) error {
	v.mu.Lock()
	full := len(v.reading) >= maxStreams || v.reading[stream] != nil
	v.mu.Unlock()
	if full {
		return v.send(ctx, msgReadDone, stream, errno(syscall.EMFILE))
	}
	var r io.Reader
	var f *os.File
	switch {
	case fd == -1:
		var err error
		if f, err = v.openFile(path, os.O_RDONLY); err != nil {
			return v.send(ctx, msgReadDone, stream, errno(err))
		}
		r = f
	case v.cmd.Control || v.cmd.Stdin == nil:
		return v.send(ctx, msgReadDone, stream, int32(0))
	default:
		r = v.cmd.Stdin
	}
	stop := new(atomic.Bool)
	v.mu.Lock()
	if v.reading == nil {
		v.reading = make(map[int32]*atomic.Bool)
	}
	v.reading[stream] = stop
	v.mu.Unlock()
	v.hasRead = true
	v.readers.Go(func() {
		if f != nil {
			defer f.Close()
		} else {
			v.stdin.Lock()
			defer v.stdin.Unlock()
		}
		v.pump(ctx, stream, r, stop)
	})
	return nil
}

// pump sends what it reads in messages of the largest size there is.
func (v *conversation) pump(ctx context.Context, stream int32, r io.Reader, stop *atomic.Bool) {
	defer func() {
		v.mu.Lock()
		delete(v.reading, stream)
		v.mu.Unlock()
	}()
	p := make([]byte, maxData)
	for !stop.Load() {
		n, err := io.ReadFull(r, p)
		if n > 0 && v.send(ctx, msgRead, stream, p[:n]) != nil {
			return // serve sees the same
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		} else {
			v.mu.Lock()
			v.readErr = err
			v.mu.Unlock()
		}
		v.send(ctx, msgReadDone, stream, errno(err))
		return
	}
}

// waitShortly waits for goroutines that read Stdin.
func waitShortly(fed <-chan struct{}) {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-fed:
	case <-t.C:
	}
}
