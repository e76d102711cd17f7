package ibuf_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"example.org/imsg/ibuf"
)

func ExampleBuffer() {
	b, err := ibuf.NewDynamic(64, 1024)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	b.AddNet16(443)
	b.AddCString("www", 8)
	b.SetNet16(0, 8443)

	port, _ := b.GetNet16()
	name, _ := b.GetCString(8)
	_, err = b.GetNet32()
	fmt.Println(port, name, err)
	// Output:
	// 8443 www ibuf: get of 4 bytes from 0: too short
}

// A protocol of one's own: two bytes of length, then a text.
func ExampleNewMsgBufReader() {
	header := func(hdr []byte) (size int, file bool, err error) {
		n := int(binary.BigEndian.Uint16(hdr))
		if n < 2 || n > 1024 {
			return 0, false, fmt.Errorf("length %d", n)
		}
		return n, false, nil
	}
	r, w := io.Pipe()
	go func() {
		out := ibuf.NewMsgBuf()
		for _, s := range []string{"hello", "world"} {
			b := ibuf.New(2 + len(s))
			b.AddNet16(uint16(2 + len(s)))
			b.Add([]byte(s))
			out.Push(b)
		}
		w.CloseWithError(out.WriteStream(w))
	}()

	in, err := ibuf.NewMsgBufReader(2, header)
	if err != nil {
		log.Fatal(err)
	}
	for err == nil {
		for b := in.Get(); b != nil; b = in.Get() {
			b.Skip(2)
			fmt.Printf("%s\n", b.Bytes())
			b.Close()
		}
		err = in.ReadStream(r)
	}
	fmt.Println(err)
	// Output:
	// hello
	// world
	// EOF
}

// conn is how a net.UnixConn passes files for MsgBuf.
type conn struct{ *net.UnixConn }

func (c conn) ReadMsg(p []byte) (n, fd int, lost bool, err error) {
	oob := make([]byte, syscall.CmsgSpace(4))
	n, oobn, flags, _, err := c.ReadMsgUnix(p, oob)
	msgs, _ := syscall.ParseSocketControlMessage(oob[:oobn])
	var fds []int
	for i := range msgs {
		f, _ := syscall.ParseUnixRights(&msgs[i])
		fds = append(fds, f...)
	}
	if len(fds) == 0 {
		return n, -1, flags&syscall.MSG_CTRUNC != 0, err
	}
	for _, extra := range fds[1:] {
		syscall.Close(extra)
	}
	return n, fds[0], false, err
}

func (c conn) WriteMsg(bufs [][]byte, file *os.File) (n int, err error) {
	if file == nil {
		return c.Write(bufs[0]) // MsgBuf asks again for the rest
	}
	rc, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	rc.Control(func(fd uintptr) { n, _, err = c.WriteMsgUnix(bufs[0], syscall.UnixRights(int(fd)), nil) })
	return n, err
}

// Files travel over any connection that can pass them. Here the header has
// one byte of length and one that says whether a file is attached.
func ExampleMsgBuf_Fill() {
	a, b := unixPair()
	defer a.Close()
	defer b.Close()

	name := filepath.Join(os.TempDir(), fmt.Sprintf("ibuf-example-%d", os.Getpid()))
	f, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(name)
	msg := ibuf.New(2)
	msg.Add([]byte{2, 1})
	msg.SetFile(f) // the queue closes it when it was sent
	out := ibuf.NewMsgBuf()
	out.Push(msg)
	if err := out.Drain(conn{a}); err != nil {
		log.Fatal(err)
	}

	in, err := ibuf.NewMsgBufReader(2, func(hdr []byte) (int, bool, error) { return int(hdr[0]), hdr[1] == 1, nil })
	if err != nil {
		log.Fatal(err)
	}
	if err := in.Fill(conn{b}); err != nil {
		log.Fatal(err)
	}
	got := in.Get()
	defer got.Close()
	g := got.TakeFile()
	defer g.Close()
	_, err = g.WriteString("through the passed descriptor")
	text, _ := os.ReadFile(name)
	fmt.Printf("%s, %v\n", text, err)
	// Output:
	// through the passed descriptor, <nil>
}

func unixPair() (a, b *net.UnixConn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		log.Fatal(err)
	}
	var cs [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		if err != nil {
			log.Fatal(err)
		}
		f.Close()
		cs[i] = c.(*net.UnixConn)
	}
	return cs[0], cs[1]
}
