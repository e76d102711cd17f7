package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
)

// Ctrl-C ends a command that waits for the first bytes of its input.
func TestOpenInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	i, err := (&inputFlags{format: "auto", dialect: "auto", order: "auto", max: 100}).open(ctx, &app{stdin: r, stderr: &stderr}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Next(); err != io.EOF {
		t.Errorf("Next = %v, want EOF", err)
	}
}
