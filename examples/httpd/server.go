package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"time"

	"example.org/imsg/peer"
	"example.org/imsg/privsep"
)

// server is the role that clients talk to.
type server struct {
	options
	listener net.Listener
	log      *os.File // nil: standard error
}

// setup does what needs a file system or system calls that are gone later.
func (s *server) setup(ctx context.Context, p *privsep.Proc) error {
	if err := json.Unmarshal(p.Config(), &s.options); err != nil {
		return err
	}
	s.log = p.File("log")
	mime.TypeByExtension(".html") // reads the system's table the first time
	return s.listen(p.File("port"))
}

func (s *server) listen(port *os.File) (err error) {
	s.listener, err = net.FileListener(port)
	return err
}

// run serves until ctx ends. A request of the files, who have none to make,
// would be their end.
func (s *server) run(ctx context.Context, p *privsep.Proc) error {
	go p.Serve(ctx)
	return s.serve(ctx, newPool(func(ctx context.Context, name string) (*os.File, error) {
		return s.ask(ctx, p.Peer("files"), name)
	}))
}

// ask has the files open a name. It fails while they are not there.
func (s *server) ask(ctx context.Context, files *peer.Peer, name string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	m, err := files.Call(ctx, peer.Request{
		Type: reqOpen, Data: []byte(name),
		Ends: []uint32{repFile, repDirectory, repForbidden, repNotFound},
	})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := answers[m.Type()]; err != nil {
		return nil, err
	}
	f := m.TakeFile()
	if f == nil {
		return nil, fmt.Errorf("an answer without the file: %v", m.FileErr()) //nolint:errorlint // nil if none was promised
	}
	return f, nil
}

// serve is the web server, split or not. What a client can take up is bounded:
// its time, its header, its connections together with those of all others, and
// so the open files.
func (s *server) serve(ctx context.Context, files *pool) error {
	go files.sweep(ctx)
	slots := make(chan struct{}, s.Conns)
	web := &http.Server{
		Handler:        &handler{files: files, log: s.log},
		ReadTimeout:    s.Timeout,
		WriteTimeout:   2 * s.Timeout, // the files may take one of them
		IdleTimeout:    s.Timeout,
		MaxHeaderBytes: 8 << 10,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew: // said between two connections that are accepted
				slots <- struct{}{}
			case http.StateClosed:
				<-slots
			}
		},
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if web.Shutdown(wait) != nil {
			web.Close()
		}
	})
	err := web.Serve(s.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
