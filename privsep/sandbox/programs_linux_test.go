package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPrograms: what package os, net and os/exec do with the promises that are
// for them. A call that is missing in the tables kills the process.
func TestPrograms(t *testing.T) {
	needFilter(t)
	for name, promises := range map[string]string{
		"files": "stdio rpath wpath cpath fattr chown flock dpath",
		// Package net looks for the backlog in /proc, and removes its sockets.
		"network": "stdio rpath cpath inet unix",
		"resolve": "stdio dns",
		"process": "stdio rpath wpath proc exec id",
	} {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				out, err := run(t, "program", Policy{Promises: promises, Debug: true}, cred, tempDir(t), name)
				if out != "ok" || err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		})
	}
}

func programChild(p Policy) error {
	if _, err := Enter(p); err != nil {
		return err
	}
	f := map[string]func() error{
		"files": fileProgram, "network": networkProgram, "resolve": resolveProgram, "process": processProgram,
	}[os.Args[1]]
	if err := f(); err != nil {
		return err
	}
	fmt.Println("ok")
	return nil
}

func fileProgram() error {
	now := time.Now()
	for i, step := range []func() error{
		func() error { return os.MkdirAll("a/b", 0o700) },
		func() error { return os.WriteFile("a/b/file", []byte("text"), 0o600) },
		func() error { return os.Symlink("file", "a/b/link") },
		func() error { return os.Link("a/b/file", "a/hard") },
		func() error { return os.Rename("a/hard", "a/b/moved") },
		func() error { return os.Chmod("a/b/file", 0o640) },
		func() error { return os.Chtimes("a/b/file", now, now) },
		func() error { return os.Lchown("a/b/link", os.Getuid(), os.Getgid()) },
		func() error { return os.Truncate("a/b/file", 2) },
		func() error { return syscall.Mkfifo("a/fifo", 0o600) },
		func() error { _, err := os.Readlink("a/b/link"); return err },
		func() error { _, err := filepath.EvalSymlinks("a/b/link"); return err },
		func() error { _, err := os.Getwd(); return err },
		func() error { _, err := os.ReadDir("a"); return err },
		func() error { return os.CopyFS("copy", os.DirFS("a/b")) },
		fileRoot,
		func() error { return os.RemoveAll("a") },
		func() error { return os.Chdir("/") },
	} {
		// The file system may not have a copy's links; everything else has to work.
		if err := step(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func fileRoot() error {
	root, err := os.OpenRoot("a")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.WriteFile("b/new", []byte("text"), 0o600); err != nil {
		return err
	}
	if _, err := root.ReadFile("b/link"); err != nil {
		return err
	}
	return root.RemoveAll("b")
}

func networkProgram() error {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = "socket"
		}
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
			},
		}}
		answer, err := client.Get("http://127.0.0.1/")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if string(text) != "hello" || err != nil {
			return fmt.Errorf("%s: %q, %w", network, text, err)
		}
		client.CloseIdleConnections()
		if err := server.Close(); err != nil {
			return err
		}
		<-served
	}
	return packets()
}

// packets uses UDP, and a socket that arrived as a file.
func packets() error {
	a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer a.Close()
	f, err := a.File()
	if err != nil {
		return err
	}
	b, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		return err
	}
	defer b.Close()
	c, err := net.DialUDP("udp", nil, a.LocalAddr().(*net.UDPAddr))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteBuffer(1 << 16); err != nil {
		return err
	}
	if _, err := c.Write([]byte("packet")); err != nil {
		return err
	}
	_, _, err = b.ReadFrom(make([]byte, 16))
	return err
}

// resolveProgram needs no answer: only that asking is not a crime.
func resolveProgram() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	resolver := &net.Resolver{PreferGo: true}
	if _, err := resolver.LookupHost(ctx, "localhost"); err != nil && ctx.Err() == nil {
		return err
	}
	var dns *net.DNSError
	if _, err := resolver.LookupHost(ctx, "name.invalid"); !errors.As(err, &dns) {
		return fmt.Errorf("name.invalid: %v", err)
	}
	return nil
}

func processProgram() error {
	cmd := exec.Command("/bin/sh", "-c", "read line; echo $line")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		io.WriteString(stdin, "through\n")
		stdin.Close()
	}()
	if out, err := cmd.Output(); string(out) != "through\n" || err != nil {
		return fmt.Errorf("shell: %q, %w", out, err)
	}
	cmd = exec.Command("/bin/cat")
	if stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	if err := cmd.Wait(); err == nil {
		return errors.New("killed, and no error")
	}
	return syscall.Setresgid(-1, os.Getgid(), -1)
}
