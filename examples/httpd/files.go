package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"

	"example.org/imsg/peer"
	"example.org/imsg/privsep"
)

// What the server may ask the files, and what they answer.
const (
	reqOpen      uint32 = 1 + iota // a name below the root, without a slash before it
	repFile                        // with the file
	repDirectory                   // it is one
	repForbidden
	repNotFound
)

var errDirectory = errors.New("is a directory")

// answers are those that are no file.
var answers = map[uint32]error{
	repDirectory: errDirectory,
	repForbidden: fs.ErrPermission,
	repNotFound:  fs.ErrNotExist,
}

// files is the role of that name: the policy on what the world may read.
type files struct{ root *os.Root }

// run opens the root when all rights but that to read below it are gone.
func (f *files) run(ctx context.Context, p *privsep.Proc) error {
	runtime.GOMAXPROCS(1) // it opens one file after the other: another thread would only look for work
	var err error
	if f.root, err = os.OpenRoot(p.Path("/")); err != nil {
		return err
	}
	p.Handle("server", peer.Rule{Type: reqOpen, Handle: f.open})
	return p.Serve(ctx)
}

func (f *files) open(ctx context.Context, r *peer.Incoming) error {
	file, err := lookup(f.root, string(r.Bytes()))
	if err == nil {
		defer file.Close() // the server has its own
		return r.Reply(repFile, file)
	}
	for typ, answer := range answers {
		if errors.Is(err, answer) {
			return r.Reply(typ, nil)
		}
	}
	return err
}

// lookup opens a regular file. Otherwise the error is one of answers, or
// something is wrong that has nothing to do with the name.
func lookup(root *os.Root, name string) (*os.File, error) {
	if !fs.ValidPath(name) || name[0] == '.' || strings.Contains(name, "/.") {
		return nil, fs.ErrPermission // whether it exists or not
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would wait for a writer
	if err != nil {
		return nil, translate(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular():
		return f, nil
	case info.IsDir():
		err = errDirectory
	default:
		err = fs.ErrPermission
	}
	f.Close()
	return nil, err
}

// translate turns the many ways in which a name can be wrong into two.
func translate(err error) error {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO} {
		if errors.Is(err, e) {
			return err
		}
	}
	for _, e := range []error{fs.ErrNotExist, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.EINVAL} {
		if errors.Is(err, e) {
			return fs.ErrNotExist
		}
	}
	return fmt.Errorf("%w: %v", fs.ErrPermission, err) //nolint:errorlint // also what leads out of the root
}
