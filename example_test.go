package imsg_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"syscall"

	"example.org/imsg"
)

// The message types that the examples of the C manual page use.
const (
	typeAMessage = iota + 1
	typeMessage2
)

// The manual page's first example, for event loops: two sides of a channel
// are made of a socket pair, usually one in each process, and one composes a
// message and writes it when its socket is ready.
func ExampleNewBuf() {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	parent, child := imsg.NewBuf(fds[0], nil), imsg.NewBuf(fds[1], nil)

	idata := binary.NativeEndian.AppendUint32(nil, 42)
	if err := child.Compose(imsg.Header{Type: typeAMessage}, nil, idata); err != nil {
		log.Fatal(err)
	}
	if err := child.WriteSocket(); errors.Is(err, syscall.EPIPE) {
		log.Fatal("the other side has closed the channel")
	} else if err != nil {
		log.Fatal(err)
	}

	if err := dispatch(parent); err != nil {
		log.Fatal(err)
	}
	// Output:
	// message 1: 42
}

// The manual page's second example: when the socket is ready for reading,
// messages are received first and then taken one by one.
func dispatch(b *imsg.Buf) error {
	if err := b.ReadSocket(); err == io.EOF {
		return errors.New("the other side has closed the channel")
	} else if err != nil {
		return err
	}
	for m := range b.All() {
		switch m.Type() {
		case typeAMessage:
			var idata [4]byte
			if err := m.GetExact(idata[:]); err != nil {
				return fmt.Errorf("corrupt message: %w", err)
			}
			fmt.Printf("message %d: %d\n", m.Type(), binary.NativeEndian.Uint32(idata[:]))
		}
		m.Close()
	}
	return nil
}

func ExampleBuf_All() {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	parent, child := imsg.NewBuf(fds[0], nil), imsg.NewBuf(fds[1], nil)
	for i := range uint32(3) {
		child.Compose(imsg.Header{Type: typeAMessage}, nil, binary.NativeEndian.AppendUint32(nil, i))
	}
	if err := child.Flush(); err != nil {
		log.Fatal(err)
	}
	if err := dispatch(parent); err != nil {
		log.Fatal(err)
	}
	// Output:
	// message 1: 0
	// message 1: 1
	// message 1: 2
}

// The manual page's first example, for goroutines.
func ExamplePair() {
	ctx := context.Background()
	parent, child, err := imsg.Pair(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer parent.Close()

	go func() { // usually another process: see Conn.File
		defer child.Close()
		idata := binary.NativeEndian.AppendUint32(nil, 42)
		if err := child.Send(ctx, imsg.Header{Type: typeAMessage}, nil, idata); err != nil {
			log.Print(err)
		}
	}()

	m, err := parent.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	fmt.Printf("message %d: %d\n", m.Type(), binary.NativeEndian.Uint32(m.Bytes()))
	// Output:
	// message 1: 42
}

// The manual page's second example, for goroutines: the loop ends when the
// other side closes the channel.
func ExampleConn_All() {
	ctx := context.Background()
	parent, child, err := imsg.Pair(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer parent.Close()
	for i := range uint32(3) {
		child.Compose(imsg.Header{Type: typeAMessage}, nil, binary.NativeEndian.AppendUint32(nil, i))
	}
	child.Compose(imsg.Header{Type: typeMessage2}, nil)
	if err := child.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	child.Close()

	for m, err := range parent.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch m.Type() {
		case typeAMessage:
			var idata [4]byte
			if err := m.GetExact(idata[:]); err != nil {
				log.Fatal("corrupt message: ", err)
			}
			fmt.Printf("message %d: %d\n", m.Type(), binary.NativeEndian.Uint32(idata[:]))
		default:
			fmt.Printf("message %d: %d bytes\n", m.Type(), m.Len())
		}
		m.Close()
	}
	// Output:
	// message 1: 0
	// message 1: 1
	// message 1: 2
	// message 2: 0 bytes
}

// One side opens a file, the other one reads it.
func ExampleConn_Send_file() {
	ctx := context.Background()
	parent, child, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		log.Fatal(err)
	}
	defer parent.Close()
	defer child.Close()

	f, err := os.Open("testdata/hello.txt")
	if err != nil {
		log.Fatal(err)
	}
	if err := parent.Send(ctx, imsg.Header{Type: typeAMessage, ID: 7}, f); err != nil {
		log.Fatal(err)
	}
	f.Close() // Send only borrows it

	m, err := child.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if err := m.FileErr(); err != nil {
		log.Fatal(err)
	}
	g := m.TakeFile()
	defer g.Close()
	text, err := io.ReadAll(g)
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// hello from a file that was passed
	// <nil>
}

// A server that answers every message, and goes on when it runs out of
// descriptors. Who may connect is decided before anybody can.
func ExampleListener_Serve() {
	dir, err := os.MkdirTemp("", "imsg")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "control.sock")

	lc := imsg.ListenConfig{Mode: 0o600, RemoveStale: true}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := lc.Listen(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	done := make(chan error)
	go func() {
		done <- l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
			for m, err := range c.All(ctx) {
				if err != nil {
					return
				}
				h := m.Header()
				m.Close()
				c.Send(ctx, h, nil, []byte("hello"))
			}
		})
	}()

	c, err := imsg.Dial(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Send(ctx, imsg.Header{Type: 7}, nil); err != nil {
		log.Fatal(err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("type %d: %s\n", m.Type(), m.Bytes())
	m.Close()

	cancel()
	fmt.Println(<-done)
	// Output:
	// type 7: hello
	// imsg: accept: context canceled
}
