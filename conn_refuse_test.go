package imsg_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/unixmsg"
)

// TestRefusedFiles sends a file to a side that did not ask for files.
func TestRefusedFiles(t *testing.T) {
	s, _ := imsgtest.Sockets(t)
	refuses := unixmsg.SetPassRights(s.FD, false) == nil
	files := &imsg.Config{AllowFDPass: true}
	for _, toServer := range []bool{true, false} {
		t.Run(fmt.Sprintf("to the server %v", toServer), func(t *testing.T) {
			testutil.NoLeak(t)
			serverCfg, clientCfg := files, (*imsg.Config)(nil)
			if toServer {
				serverCfg, clientCfg = nil, files
			}
			l, path := listen(t, serverCfg)
			to, from := connect(t, l, path, clientCfg)
			if toServer {
				to, from = from, to
			}
			ctx := testutil.DeadlineCtx(t)
			if err := from.Send(ctx, imsg.Header{Type: 1}, nil, testutil.Pattern(1, 5)); err != nil {
				t.Fatal(err)
			}
			p := testutil.NewProbe(t)
			err := from.Send(ctx, imsg.Header{Type: 2}, p.W, testutil.Pattern(2, 5))
			testutil.ReceiveAll(t, to, 1)
			if refuses {
				if !errors.Is(err, syscall.EPERM) {
					t.Errorf("%v, want EPERM", err)
				}
				testutil.SameError(t, err, 2, func() error { return from.Send(ctx, imsg.Header{Type: 3}, nil) })
			} else {
				if err != nil {
					t.Error(err)
				}
				m, err := to.Receive(ctx)
				if err != nil || m.HasFile() || !errors.Is(m.FileErr(), imsg.ErrFileLost) {
					t.Errorf("%v, file %v, %v", err, m.HasFile(), m.FileErr())
				}
				m.Close()
			}
			p.W.Close()
			if !p.Closed() {
				t.Error("the file is open")
			}
			if err := to.Send(ctx, imsg.Header{Type: 4}, p.W); !errors.Is(err, imsg.ErrNoFDPass) {
				t.Errorf("%v, want ErrNoFDPass", err)
			}
			if err := to.Send(ctx, imsg.Header{Type: 4}, nil); err != nil {
				t.Errorf("the other direction: %v", err)
			}
			testutil.ReceiveAll(t, from, 4)
		})
	}
}
