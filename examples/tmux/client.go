package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"example.org/imsg"
)

const (
	msgVersion           = 12  // <- the id is not protocolVersion
	msgIdentifyTerm      = 101 // -> string
	msgIdentifyTTYName   = 102 // -> string; "" for none, but it must be sent
	msgIdentifyStdin     = 104 // -> with a file
	msgIdentifyEnviron   = 105 // -> string NAME=VALUE
	msgIdentifyDone      = 106 // ->
	msgIdentifyClientPID = 107 // -> i32
	msgIdentifyCwd       = 108 // -> string
	msgIdentifyStdout    = 110 // -> with a file
	msgIdentifyLongFlags = 111 // -> u64
	msgCommand           = 200 // -> i32 number of arguments, strings
	msgExit              = 203 // <- i32 exit status, string; or nothing
	msgExited            = 204 // <- the end
	msgExiting           = 205 // -> the answer to msgExit and msgShutdown
	msgShutdown          = 209 // <- the same as msgExit
	msgReadOpen          = 300 // <- i32 stream, i32 descriptor, string path
	msgRead              = 301 // -> i32 stream, bytes
	msgReadDone          = 302 // -> i32 stream, i32 errno
	msgWriteOpen         = 303 // <- i32 stream, i32 descriptor, i32 flags, string path
	msgWrite             = 304 // <- i32 stream, bytes
	msgWriteReady        = 305 // -> i32 stream, i32 errno: the server waits for it
	msgWriteClose        = 306 // <- i32 stream

	protocolVersion = 8 // in the id of every header

	flagControl = 0x2000
	flagUTF8    = 0x10000

	maxPayload = imsg.DefaultMaxSize - imsg.HeaderSize
)

// A client runs one command in a server.
type client struct {
	control bool      // pass os.Stdin and os.Stdout
	out     io.Writer // standard output of the command
	conn    *imsg.Conn
	streams map[int32]io.Writer // what the server writes to
}

// run connects, runs the command and returns its exit status.
func (c *client) run(ctx context.Context, socket string, cfg *imsg.Config, args []string) (status int, err error) {
	if c.conn, err = imsg.Dial(ctx, socket, cfg); err != nil {
		return 0, err
	}
	defer c.conn.Close()
	c.streams = make(map[int32]io.Writer)
	if err := c.identify(ctx); err != nil {
		return 0, err
	}
	if err := c.send(ctx, msgCommand, int32(len(args)), strings.Join(args, "\x00")); err != nil {
		return 0, err
	}
	for m, err := range c.conn.All(ctx) {
		if err != nil {
			return 0, err
		}
		done, err := c.handle(ctx, m, &status)
		m.Close()
		if done || err != nil {
			return status, err
		}
	}
	return 0, io.ErrUnexpectedEOF
}

// identify tells the server who we are.
func (c *client) identify(ctx context.Context) error {
	type message struct {
		typ   uint32
		field any
	}
	cwd, _ := os.Getwd()
	hello := []message{
		{msgIdentifyLongFlags, c.flags()},
		{msgIdentifyTerm, os.Getenv("TERM")},
		{msgIdentifyTTYName, ""},
		{msgIdentifyCwd, cwd},
		{msgIdentifyClientPID, int32(os.Getpid())},
	}
	if c.control {
		hello = append(hello, message{msgIdentifyStdin, os.Stdin}, message{msgIdentifyStdout, os.Stdout})
	}
	for _, s := range os.Environ() {
		if len(s) < maxPayload { // tmux leaves longer ones out, too
			hello = append(hello, message{msgIdentifyEnviron, s})
		}
	}
	for _, m := range hello {
		if err := c.send(ctx, m.typ, m.field); err != nil {
			return err
		}
	}
	return c.send(ctx, msgIdentifyDone)
}

// flags says what kind of client this is. The locale decides about UTF-8.
func (c *client) flags() (flags uint64) {
	if c.control {
		flags |= flagControl
	}
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	if strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8") {
		flags |= flagUTF8
	}
	return flags
}

// send sends one message: numbers in host byte order, strings with a NUL
// behind them, bytes as they are, and a file, which stays the caller's.
func (c *client) send(ctx context.Context, typ uint32, fields ...any) error {
	var f *os.File
	var p []byte
	for _, v := range fields {
		switch v := v.(type) {
		case *os.File:
			f = v
		case string:
			p = append(append(p, v...), 0)
		default:
			p, _ = binary.Append(p, binary.NativeEndian, v)
		}
	}
	return c.conn.Send(ctx, imsg.Header{Type: typ, ID: protocolVersion, PID: -1}, f, p)
}

// handle acts on one message of the server. done says that it was the last.
func (c *client) handle(ctx context.Context, m imsg.Message, status *int) (done bool, err error) {
	n := map[uint32]int{msgReadOpen: 2, msgWriteOpen: 3, msgWrite: 1, msgWriteClose: 1}[m.Type()]
	if m.Type() == msgExit && m.Len() > 0 {
		n = 1
	}
	v := make([]int32, n) // the numbers in front; a string or bytes may follow
	if _, err := binary.Decode(m.Bytes(), binary.NativeEndian, v); err != nil {
		return true, fmt.Errorf("message of type %d has %d bytes", m.Type(), m.Len())
	}
	rest := m.Bytes()[4*n:]
	path := strings.TrimSuffix(string(rest), "\x00")

	switch m.Type() {
	case msgVersion:
		return true, fmt.Errorf("protocol version mismatch (client %d, server %d)", protocolVersion, m.ID()&0xff)
	case msgExit, msgShutdown:
		if n > 0 {
			*status = int(v[0])
		}
		return false, c.send(ctx, msgExiting)
	case msgExited:
		if c.control {
			io.WriteString(c.out, "%exit\n")
		}
		return true, nil
	case msgReadOpen:
		return false, c.read(ctx, v[0], v[1], path)
	case msgWriteOpen:
		w, err := c.create(v[1], int(v[2]), path)
		if err == nil {
			c.streams[v[0]] = w
		}
		return false, c.send(ctx, msgWriteReady, v[0], errno(err))
	case msgWrite:
		if w := c.streams[v[0]]; w != nil {
			_, err = w.Write(rest)
		}
	case msgWriteClose:
		if f, ok := c.streams[v[0]].(*os.File); ok && f != os.Stdout && f != os.Stderr {
			err = f.Close()
		}
		delete(c.streams, v[0])
	}
	return false, err
}

// create opens what the server wants to write to.
func (c *client) create(fd int32, flags int, path string) (io.Writer, error) {
	switch fd {
	case 1:
		return c.out, nil
	case 2:
		return os.Stderr, nil
	}
	return os.OpenFile(path, flags|os.O_WRONLY|os.O_CREATE, 0o644)
}

// read sends a file, or standard input up to its end, in messages of the
// largest size there is.
func (c *client) read(ctx context.Context, stream, fd int32, path string) (err error) {
	var p []byte
	if fd == -1 {
		p, err = os.ReadFile(path)
	} else {
		p, err = io.ReadAll(os.Stdin)
	}
	for part := range slices.Chunk(p, maxPayload-4) {
		if err := c.send(ctx, msgRead, stream, part); err != nil {
			return err
		}
	}
	return c.send(ctx, msgReadDone, stream, errno(err))
}

// errno is how an error travels.
func errno(err error) int32 {
	var e syscall.Errno
	if err != nil && !errors.As(err, &e) {
		e = syscall.EIO
	}
	return int32(e)
}
