package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Ctrl-C ends a command that waits for the first bytes, whether the file is a pipe
// in which there are none or a FIFO that nobody writes to.
func TestOpenInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // who waits to open it goes on
		if f, err := os.OpenFile(fifo, os.O_RDWR, 0); err == nil {
			f.Close()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"", fifo} {
		var stderr bytes.Buffer
		i, err := (&inputFlags{format: "auto", dialect: "auto", order: "auto", max: 100}).open(ctx, &app{stdin: r, stderr: &stderr}, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.Next(); err != io.EOF {
			t.Errorf("Next = %v, want EOF", err)
		}
	}
}
