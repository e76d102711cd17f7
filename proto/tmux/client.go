package tmux

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.org/imsg"
)

// A Config says how a Client behaves. The zero Config, which nil stands for, is
// right for most programs.
type Config struct {
	// Dialect is "current" (tmux 3.6 and later), "legacy" (earlier ones), or ""
	// or "auto" to ask the server.
	Dialect string

	// Env is the environment that commands see, for example to find the pane
	// in which the program runs (TMUX_PANE); nil means this process's.
	Env []string

	// Dir is the working directory of commands; "" means this process's.
	Dir string

	// OpenFile opens the files that the server asks for, such as PATH of
	// load-buffer PATH, save-buffer PATH or source-file PATH; the name is
	// absolute. os.OpenFile acts as tmux does. With nil every file is refused,
	// since a server may ask for any: use LoadBuffer and SaveBuffer.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)

	// MaxOutput limits what Run, RunList, Capture and a Control collect from
	// one call in bytes; 0 means 64 MiB.
	MaxOutput int
}

// A Client talks to one tmux server. It keeps no connection open: like tmux
// itself it makes one for every command. Its methods may be called by many
// goroutines at a time.
type Client struct {
	socket  string
	cfg     Config
	version string
	dialect imsg.Dialect
}

// DefaultSocket returns the path of the socket of the server in whose pane this
// process runs, and otherwise of the user's default server.
func DefaultSocket() string {
	if s, _, _ := strings.Cut(os.Getenv("TMUX"), ","); s != "" {
		return s
	}
	dir := cmp.Or(os.Getenv("TMUX_TMPDIR"), "/tmp")
	return filepath.Join(dir, fmt.Sprintf("tmux-%d", os.Getuid()), "default")
}

// probeLimit bounds the question for the server's version, which is answered
// within milliseconds.
const probeLimit = 10 * time.Second

// Dial asks the server that listens on socket for its version, from which the
// dialect of its messages follows: tmux 3.6 (November 2025) changed it, and on
// a little-endian machine the two look the same until a file is passed. It
// starts no server. cfg may be nil. The error is an *Error.
func Dial(ctx context.Context, socket string, cfg *Config) (*Client, error) {
	c := &Client{socket: socket}
	if cfg != nil {
		c.cfg = *cfg
	}
	if c.cfg.MaxOutput == 0 {
		c.cfg.MaxOutput = 64 << 20
	}
	var err error
	c.version, c.dialect, err = c.probe(ctx)
	if err != nil {
		return nil, c.fail("dial", err)
	}
	return c, nil
}

// Socket returns the path of the server's socket.
func (c *Client) Socket() string { return c.socket }

// Version returns the server's version, for example "3.5a" or "next-3.8", as
// Dial found it.
func (c *Client) Version() string { return c.version }

// Dialect returns the dialect that the server speaks, as Dial found it. It is
// imsg.Auto if the version does not tell; then Control needs Config.Dialect.
func (c *Client) Dialect() imsg.Dialect { return c.dialect }

// probe asks the server for its version, on a connection without files.
func (c *Client) probe(ctx context.Context) (version string, d imsg.Dialect, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	ask := []imsg.Dialect{imsg.Current}
	switch {
	case c.cfg.Dialect == "current":
	case c.cfg.Dialect == "legacy":
		ask[0] = imsg.Legacy
	case c.cfg.Dialect != "" && c.cfg.Dialect != "auto":
		return "", 0, fmt.Errorf("unknown dialect %q", c.cfg.Dialect)
	case bigEndian: // an old server hangs up
		ask = append(ask, imsg.Legacy)
	}
	var out bytes.Buffer
	for _, d = range ask {
		var status int
		out.Reset()
		cmd := &Command{Args: []string{"display-message", "-p", "#{version}"}, Stdout: &limited{&out, 1 << 10}}
		if status, err = c.converse(ctx, d, cmd); err == nil {
			if status != 0 {
				return "", 0, fmt.Errorf("display-message: exit status %d", status)
			}
			break
		}
	}
	if err != nil {
		return "", 0, err
	}
	version = strings.TrimSpace(out.String())
	if (c.cfg.Dialect == "" || c.cfg.Dialect == "auto") && !bigEndian {
		d = dialectOf(version)
	}
	return version, d, nil
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// dialectOf tells which dialect a version of tmux speaks, for example "3.5a",
// "next-3.8" or "openbsd-7.7". The snapshots before 3.6 may speak either, and
// so may what has no number: then it is imsg.Auto.
func dialectOf(version string) imsg.Dialect {
	first, v := 3*100+6, strings.TrimPrefix(version, "next-")
	if s, ok := strings.CutPrefix(version, "openbsd-"); ok {
		first, v = 7*100+7, s
	}
	var major, minor int
	if n, _ := fmt.Sscanf(v, "%d.%d", &major, &minor); n != 2 || version == "next-3.6" {
		return imsg.Auto
	}
	if major*100+minor < first {
		return imsg.Legacy
	}
	return imsg.Current
}

// NotRun is the Status of a command of a list before which another one failed.
const NotRun = -1

// A Result is what a command has left behind.
type Result struct {
	Stdout, Stderr []byte
	Status         int // 0 if it succeeded

	args    []string
	version string
}

// Err returns nil if the command succeeded, and a *CommandError otherwise.
func (r Result) Err() error {
	if r.Status == 0 {
		return nil
	}
	msg := strings.TrimRight(string(r.Stderr), "\n")
	switch {
	case r.Status == NotRun:
		msg = "not run, because a command before it failed"
	case msg == "":
		msg = fmt.Sprintf("exit status %d", r.Status)
	}
	return &CommandError{Args: r.args, Status: r.Status, Stderr: msg, Version: r.version}
}

// Run runs one command, such as "list-windows", "-t", "work". Arguments are
// taken as they are: a ";" in them separates nothing. The error is nil if the
// conversation with the server succeeded, whatever the command's status is, and
// otherwise an *Error; Result.Err is what the command itself says.
func (c *Client) Run(ctx context.Context, args ...string) (Result, error) {
	r := Result{args: args, version: c.version}
	var stdout, stderr bytes.Buffer
	left := c.cfg.MaxOutput
	cmd := &Command{Args: literal(args), Stdout: &shared{&stdout, &left}, Stderr: &shared{&stderr, &left}}
	var err error
	r.Status, err = c.Exec(ctx, cmd)
	r.Stdout, r.Stderr = stdout.Bytes(), stderr.Bytes()
	return r, err
}

// output is Run for a command that must succeed.
func (c *Client) output(ctx context.Context, args ...string) ([]byte, error) {
	r, err := c.Run(ctx, args...)
	if err == nil {
		err = r.Err()
	}
	return r.Stdout, err
}
