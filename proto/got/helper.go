package got

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"example.org/imsg"
	"example.org/imsg/payload"
)

// Helpers says where got's helper programs are.
type Helpers struct {
	Dir string // of the programs, such as /usr/libexec

	// Command, if not nil, makes the command of a helper, such as
	// "got-read-blob", instead of exec.CommandContext. It gets the other side of
	// the channel as descriptor 3.
	Command func(ctx context.Context, name string) *exec.Cmd
}

// A helper is a running one.
type helper struct {
	name string
	cmd  *exec.Cmd
	conn *imsg.Conn
}

// start starts a helper. When ctx ends it is killed.
func (h *Helpers) start(ctx context.Context, name string) (*helper, error) {
	command := h.Command
	if command == nil {
		command = func(ctx context.Context, name string) *exec.Cmd {
			return exec.CommandContext(ctx, filepath.Join(h.Dir, name), "-")
		}
	}
	cmd := command(ctx, name)
	conn, err := imsg.StartChild(cmd, 3, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return nil, err
	}
	return &helper{name, cmd, conn}, nil
}

// request sends a request for an object, which is in a file.
func (h *helper) request(ctx context.Context, typ uint32, id ID, object *os.File) error {
	oid := objectID{}
	copy(oid.Hash[:], id[:])
	data, err := payload.Native{}.Marshal(&oid)
	if err != nil {
		return err
	}
	return h.conn.Send(ctx, imsg.Header{Type: typ}, object, data)
}

// endAfter ends a conversation that has failed: what is left of an answer is none
// to the next request.
func (h *helper) endAfter(err *error) {
	if *err != nil {
		h.conn.Close()
	}
}

// receive receives a message.
func (h *helper) receive(ctx context.Context, typ uint32, take func(data []byte) error) error {
	m, err := h.conn.Receive(ctx)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	defer m.Close()
	return h.expect(m, typ, take)
}

// close ends the helper and waits for it.
func (h *helper) close() error {
	h.conn.Close() // may be closed already
	return h.cmd.Wait()
}

// A Blob is a blob as got-read-blob delivers it.
type Blob struct {
	Size   int64  // in bytes, with the header "blob N\0" in front
	Header int64  // size of that header
	Data   []byte // with the header; nil if it was written to the file
}

// Blobs is a running got-read-blob. Its methods may be called by one goroutine
// at a time.
type Blobs struct{ h *helper }

// Blobs starts got-read-blob. It is killed when ctx ends; the caller must Close
// it.
func (h *Helpers) Blobs(ctx context.Context) (*Blobs, error) {
	p, err := h.start(ctx, "got-read-blob")
	if err != nil {
		return nil, err
	}
	return &Blobs{p}, nil
}

// Read reads a blob from object, the file of a loose object. One that does not
// fit into a message, which has room for 16352 bytes, is written to out. Both
// files stay the caller's; their offsets are shared with the helper.
func (b *Blobs) Read(ctx context.Context, id ID, object, out *os.File) (r Blob, err error) {
	defer b.h.endAfter(&err)
	if err := b.h.request(ctx, msgBlobRequest, id, object); err != nil {
		return r, err
	}
	if err := b.h.conn.Send(ctx, imsg.Header{Type: msgBlobOutFile}, out); err != nil {
		return r, err
	}
	err = b.h.receive(ctx, msgBlob, func(data []byte) error {
		r, err = blob(data)
		return err
	})
	return r, err
}

// OpenLoose opens the file of a loose object of the repository whose directory
// (.git, or that of a bare one) is given.
func OpenLoose(dir string, id ID) (*os.File, error) {
	s := id.String()
	return os.Open(filepath.Join(dir, "objects", s[:2], s[2:]))
}

// Copy writes the contents of a blob, without its header, to w. It must be a loose
// object of the repository whose directory (.git, or that of a bare one) is given.
func (b *Blobs) Copy(ctx context.Context, w io.Writer, dir string, id ID) (n int64, err error) {
	object, err := OpenLoose(dir, id)
	if err != nil {
		return 0, err
	}
	defer object.Close()
	out, err := os.CreateTemp("", "got-blob")
	if err != nil {
		return 0, err
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		return 0, err
	}
	r, err := b.Read(ctx, id, object, out)
	if err != nil {
		return 0, err
	}
	if r.Size <= maxInline {
		m, err := w.Write(r.Data[r.Header:])
		return int64(m), err
	}
	n, err = io.Copy(w, io.NewSectionReader(out, r.Header, r.Size-r.Header))
	if err == nil && n != r.Size-r.Header {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close ends the helper and waits for it. The error is that of its end.
func (b *Blobs) Close() error { return b.h.close() }

// A Config is what got reads of git's configuration.
type Config struct {
	FormatVersion int    // of the repository
	Name, Email   string // of the author; "" if it is not set
}

// Config reads a file of git's configuration, which stays the caller's, with
// got-read-gitconfig. Which version that is it finds out by asking.
func (h *Helpers) Config(ctx context.Context, file *os.File) (c Config, err error) {
	for _, base := range configBases {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return c, err
		}
		c, err = h.config(ctx, base, file)
		if _, refused := errors.AsType[*HelperError](err); !refused {
			return c, err
		}
	}
	return c, err
}

func (h *Helpers) config(ctx context.Context, base uint32, file *os.File) (c Config, err error) {
	p, err := h.start(ctx, "got-read-gitconfig")
	if err != nil {
		return c, err
	}
	defer p.close()
	return p.config(ctx, base, file)
}

func (h *helper) config(ctx context.Context, base uint32, file *os.File) (c Config, err error) {
	if err := h.conn.Send(ctx, imsg.Header{Type: base + configParse}, file); err != nil {
		return c, err
	}
	if err := h.conn.Send(ctx, imsg.Header{Type: base + configFormat}, nil); err != nil {
		return c, err
	}
	err = h.receive(ctx, base+configInt, func(data []byte) error {
		n, err := integer(data)
		c.FormatVersion = n
		return err
	})
	for _, s := range []struct {
		typ uint32
		to  *string
	}{{configName, &c.Name}, {configEmail, &c.Email}} {
		if err != nil {
			return Config{}, err
		}
		if err = h.conn.Send(ctx, imsg.Header{Type: base + s.typ}, nil); err == nil {
			err = h.receive(ctx, base+configString, func(data []byte) error {
				*s.to = string(data)
				return nil
			})
		}
	}
	if err != nil {
		return Config{}, err
	}
	return c, nil
}

// integer decodes the payload of configInt.
func integer(data []byte) (int, error) {
	var v struct{ N int32 }
	err := payload.Native{}.Unmarshal(data, &v)
	return int(v.N), err
}
