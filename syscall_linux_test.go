package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// kernelOptions make the kernel add control messages to what a peer sends.
var kernelOptions = map[string]int{
	"SO_PASSCRED":    unix.SO_PASSCRED,
	"SO_PASSSEC":     unix.SO_PASSSEC,
	"SO_PASSPIDFD":   unix.SO_PASSPIDFD,
	"SO_TIMESTAMP":   unix.SO_TIMESTAMP,
	"SO_TIMESTAMPNS": unix.SO_TIMESTAMPNS,
	"SO_INQ":         unix.SO_INQ,
}

// TestKernelOptions sets an option, or all, before a channel is made of the
// socket or while it is in use: files arrive, and nothing stays open.
func TestKernelOptions(t *testing.T) {
	const all = "all"
	tests := []string{all}
	for name := range kernelOptions {
		tests = append(tests, name)
	}
	for _, name := range tests {
		set := func(t *testing.T, fd int) {
			for n, o := range kernelOptions {
				if n != name && name != all {
					continue
				}
				err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1)
				if err == unix.ENOPROTOOPT && name != all {
					t.Skip("the kernel does not have this option")
				} else if err != nil && err != unix.ENOPROTOOPT {
					t.Fatal(err)
				}
			}
		}
		for _, files := range []bool{true, false} {
			for _, at := range []int{0, 5} {
				t.Run(fmt.Sprintf("%s/files %v/at %d", name, files, at), func(t *testing.T) {
					testutil.BothSides(t, imsg.Config{AllowFDPass: files}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
						const n = 20
						var probes []*testutil.Probe
						send := func(i int) {
							if p := testutil.Frame(imsg.Current, uint32(i+1), 5, i%4 != 0); i%4 != 0 {
								probes = append(probes, testutil.Pass(t, peer, p))
							} else {
								peer.Write(p)
							}
						}
						receive := func(i int) {
							m := testutil.MustNext(t, s, uint32(i+1), 5)
							if want := i%4 != 0; m.HasFile() != (want && files) || (m.FileErr() == nil) != (files || !want) {
								t.Errorf("message %d: file %v, %v", i+1, m.HasFile(), m.FileErr())
							}
							m.Close()
						}
						for i := range at {
							send(i)
							receive(i)
						}
						set(t, s.FD)
						for i := at; i < n; i++ {
							send(i)
						}
						for i := at; i < n; i++ {
							receive(i)
						}
						for _, p := range probes {
							testutil.WantClosed(t, "a file", p)
						}
					})
				})
			}
		}
	}
}

// TestModeChanged lets a holder of a duplicate make a Conn's socket blocking:
// contexts, deadlines and Close still end what waits.
func TestModeChanged(t *testing.T) {
	for _, files := range []bool{true, false} {
		for what, wait := range map[string]func(c *imsg.Conn, ctx context.Context) error{
			"Receive": func(c *imsg.Conn, ctx context.Context) error {
				_, err := c.Receive(ctx)
				return err
			},
			"Send": func(c *imsg.Conn, ctx context.Context) error {
				return c.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 4000))
			},
		} {
			for end, want := range map[string]error{
				"context": context.Canceled, "deadline": os.ErrDeadlineExceeded, "Close": net.ErrClosed,
			} {
				t.Run(fmt.Sprintf("files %v/%s/%s", files, what, end), func(t *testing.T) {
					testutil.NoLeak(t)
					a, _ := pairOf(t, &imsg.Config{AllowFDPass: files})
					if what == "Send" {
						testutil.FillConn(t, a)
					}
					f, err := a.File()
					testutil.Must(t, err)
					defer f.Close()
					testutil.Must(t, unix.SetNonblock(int(f.Fd()), false))
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					done := testutil.Go(func() error { return wait(a, ctx) })
					testutil.WaitBlocked(t, 1, "(*Conn)."+what)
					switch end {
					case "context":
						cancel()
					case "deadline":
						a.SetDeadline(time.Unix(1, 0))
					case "Close":
						a.Close()
					}
					testutil.Within(t, what+" ended by "+end, func() {
						testutil.WantError(t, "the error", <-done, want)
					})
				})
			}
		}
	}
}

// TestBufModeChanged makes the descriptor of a Buf that never waits blocking.
func TestBufModeChanged(t *testing.T) {
	for _, files := range []bool{true, false} {
		testutil.NoLeak(t)
		_, s := imsgtest.Sockets(t)
		b := testutil.NewBuf(t, s.FD, &imsg.Config{AllowFDPass: files})
		testutil.Must(t, unix.SetNonblock(s.FD, false))
		testutil.Within(t, "ReadSocket and WriteSocket", func() {
			testutil.Check(t, b.ReadSocket())
			for before := -1; before != b.QueueLen(); {
				before = b.QueueLen()
				err := errors.Join(b.Compose(imsg.Header{Type: 1}, nil, make([]byte, 10000)), b.WriteSocket())
				testutil.Check(t, err)
				if err != nil || b.QueueLen() > 3 {
					break
				}
			}
		})
	}
}
