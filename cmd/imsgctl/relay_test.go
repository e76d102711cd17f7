package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"example.org/imsg"
	"example.org/imsg/internal/relay"
	"example.org/imsg/internal/unixmsg"
)

// patience bounds what scripts wait for.
const patience = time.Minute

// dieOn ends a script's program.
func dieOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echod is "echod [-bad] SOCKET": a daemon that answers each message with the
// same one, or, with -bad, with what is none. SIGINT ends it, and leaves its
// socket.
func echod() {
	bad := flag.Bool("bad", false, "")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	lc := imsg.ListenConfig{RemoveStale: true, Mode: 0o640}
	l, err := lc.Listen(ctx, flag.Arg(0), &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
	dieOn(err)
	l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
		c.SetMaxSize(1 << 20)
		for m, err := range c.Each(ctx) {
			if err == nil && *bad {
				raw, _ := c.SyscallConn()
				raw.Control(func(fd uintptr) { syscall.Write(int(fd), []byte("HTTP/1.1 400 Bad Request\r\n")) })
			} else if err == nil {
				err = c.Forward(ctx, m)
			}
			if err != nil {
				return
			}
		}
	})
}

// ask is "ask [-dialect D] [-file FILE] [-size N] SOCKET TYPE [TEXT]": it waits
// until somebody listens, sends a message, and prints what comes until the end.
func ask() {
	name := flag.String("dialect", "auto", "")
	file := flag.String("file", "", "")
	size := flag.Int("size", 0, "")
	flag.Parse()
	d, err := parseDialect(*name)
	dieOn(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var c *imsg.Conn
	for c == nil {
		c, err = imsg.Dial(ctx, flag.Arg(0), &imsg.Config{Dialect: d, AllowFDPass: true})
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			dieOn(err)
		}
		time.Sleep(time.Millisecond)
	}
	dieOn(c.SetMaxSize(1 << 15))
	typ, err := strconv.Atoi(flag.Arg(1))
	dieOn(err)
	var f *os.File
	if *file != "" {
		f, err = os.Open(*file)
		dieOn(err)
	}
	text := flag.Arg(2)
	if *size > 0 {
		text = strings.Repeat("x", *size)
		dieOn(c.SetMaxSize(*size))
	}
	err = c.Send(ctx, imsg.Header{Type: uint32(typ), ID: 7, PID: 77}, f, []byte(text))
	if !errors.Is(err, syscall.EPIPE) { // which is the end, noticed early
		dieOn(err)
		dieOn(c.CloseWrite())
	}
	for m, err := range c.All(ctx) {
		dieOn(err)
		text := fmt.Sprintf("%.40q", m.Bytes())
		if f := m.TakeFile(); f != nil {
			b, _ := io.ReadAll(f)
			text += fmt.Sprintf(" file %q", b)
		}
		fmt.Println("answer", m.Type(), m.ID(), m.PID(), m.Len(), text)
	}
}

// placed waits until a proxy stands in the place of a socket or, negated, does
// no longer.
func placed(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		note, err := os.ReadFile(path + ".imsgctl")
		var dev, ino uint64
		if _, ours, ok := strings.Cut(string(note), "\nours "); ok {
			fmt.Sscan(ours, &dev, &ino)
		}
		info, serr := os.Lstat(path)
		alive, _ := unixmsg.Bound(path) // without a connection
		if !neg && serr == nil && alive && ino != 0 && inodeOf(info) == ino || neg && errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("placed %s: %s, %v", path, note, err)
		}
	}
}

func inodeOf(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// kid is "kid [-fd N]": a child that says hello on standard output, answers each
// message on its channel with the same one, and ends with status 3 on type 99.
func kid() {
	fd := flag.Int("fd", 3, "")
	flag.Parse()
	fmt.Println("hello")
	c, err := imsg.NewConn(*fd, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
	dieOn(err)
	for m, err := range c.Each(context.Background()) {
		dieOn(err)
		if m.Type() == 99 {
			os.Exit(3)
		}
		dieOn(c.Forward(context.Background(), m))
	}
}

// parent is "parent [-fd N] [-file FILE] TYPE COMMAND...": it starts a command
// with a channel, sends a message, and prints what comes, also from the
// command's standard output.
func parent() {
	fd := flag.Int("fd", 3, "")
	file := flag.String("file", "", "")
	flag.Parse()
	typ, err := strconv.Atoi(flag.Arg(0))
	dieOn(err)
	cmd := exec.Command(flag.Arg(1), flag.Args()[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	c, err := imsg.StartChild(cmd, *fd, &imsg.Config{Dialect: imsg.Legacy, AllowFDPass: true})
	dieOn(err)
	f, err := os.Open(*file)
	dieOn(err)
	dieOn(c.Send(context.Background(), imsg.Header{Type: uint32(typ), PID: 1}, f, []byte("from the parent")))
	m, err := c.Receive(context.Background())
	if err == nil {
		b, _ := io.ReadAll(m.TakeFile())
		fmt.Printf("answer %d %q file %q\n", m.Type(), m.Bytes(), b)
		c.CloseWrite()
		_, err = c.Receive(context.Background())
	}
	fmt.Println(err) // the channel stays open meanwhile
	fmt.Println(cmd.Wait())
}

// canMove reports whether the place of a socket can be taken here.
func canMove() bool {
	dir, err := os.MkdirTemp("", "imsg")
	dieOn(err)
	defer os.RemoveAll(dir)
	l, err := imsg.Listen(dir+"/s", nil)
	dieOn(err)
	defer l.Close()
	m, err := relay.Take(context.Background(), dir+"/s", nil)
	if err == nil {
		dieOn(m.GiveBack())
	}
	return !errors.Is(err, relay.ErrMoveUnsupported)
}
