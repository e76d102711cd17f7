package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// serve shows a growing file in a browser, until ctx ends. Only programs on this
// machine that know the address get anything: it has a random part, and a page
// of another site that guesses the port fails at the name of the host.
func (d *diagram) serve(ctx context.Context, a *app, in *inputFlags, name, listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--listen %q: an address of the loopback interface, such as 127.0.0.1:8080", listen)
	}
	in.follow = ctx
	i, err := in.open(ctx, a, name)
	if err != nil {
		return err
	}
	defer i.Close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	d.Title = escape(filepath.Base(name))
	s := &liveServer{d: d, path: "/" + rand.Text() + "/", host: l.Addr().String()}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Fprintf(a.stdout, "http://%s%s\n", s.host, s.path)

	var read error
	done := make(chan struct{})
	go func() {
		read = s.read(i)
		close(done)
	}()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-served:
	case <-done:
		if err = read; err == nil {
			<-ctx.Done() // all of it is shown: somebody may look at it
		} else {
			a.complain(a.running, err)
			<-ctx.Done()
		}
	}
	srv.Close()
	return err
}

// A liveServer gives the page and what is new in the diagram.
type liveServer struct {
	path, host string

	mu sync.Mutex
	d  *diagram
}

// read draws what comes.
func (s *liveServer) read(i *input) error {
	for {
		r, err := i.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return i.wrap(err)
		}
		s.mu.Lock()
		err = s.d.add(r)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (s *liveServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	switch {
	case r.Host != s.host:
		http.Error(w, "wrong host", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "wrong method", http.StatusMethodNotAllowed)
	case r.URL.Path == s.path:
		h.Set("Content-Type", "text/html; charset=utf-8")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.d.page(w, s.path+"data")
	case r.URL.Path == s.path+"data":
		h.Set("Content-Type", "application/json")
		w.Write(s.news(r.URL.Query().Get("from")))
	default:
		http.NotFound(w, r)
	}
}

const liveRows = 1000 // at a time

// news is JSON of the rows from a number on, and of all lifelines.
func (s *liveServer) news(from string) []byte {
	n, _ := strconv.Atoi(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.d.Rows[min(max(n, 0), len(s.d.Rows)):]
	p, err := json.Marshal(map[string]any{"lines": s.d.Lines, "rows": rows[:min(len(rows), liveRows)], "left": s.d.left})
	if err != nil {
		p, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return p
}

// A follower reads a file that grows, until ctx ends.
type follower struct {
	ctx context.Context
	r   io.Reader
}

func (f follower) Read(p []byte) (int, error) {
	for {
		n, err := f.r.Read(p)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		select {
		case <-f.ctx.Done():
			return 0, io.EOF
		case <-time.After(100 * time.Millisecond):
		}
	}
}
