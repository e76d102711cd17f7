package imsg_test

import (
	"errors"
	"os"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

func TestBuilderLimits(t *testing.T) {
	for _, conn := range []bool{false, true} {
		testutil.NoLeak(t)
		sa, sb := imsgtest.Sockets(t)
		peer := testutil.NewConn(t, sb.Take(), &imsg.Config{AllowFDPass: true})
		cfg := &imsg.Config{AllowFDPass: true}
		var q queuer
		var flush func() error
		if conn {
			c := testutil.NewConn(t, sa.Take(), cfg)
			q, flush = c, func() error { return c.Flush(testutil.DeadlineCtx(t)) }
		} else {
			b := testutil.NewBuf(t, sa.FD, cfg)
			q, flush = b, b.Flush
		}
		testutil.Must(t, q.SetMaxSize(20))
		create := func(typ uint32, n int) *imsg.Builder {
			t.Helper()
			bd, err := q.Create(imsg.Header{Type: typ, ID: 5}, n)
			testutil.Must(t, err)
			return bd
		}
		for _, n := range []int{21, -1, 1 << 30} {
			if bd, err := q.Create(imsg.Header{Type: 1}, n); err == nil || bd != nil {
				t.Errorf("Create of %d bytes: %v", n, err)
			} else if n > 0 && !errors.Is(err, imsg.ErrTooLarge) {
				t.Errorf("Create of %d bytes: %v, want ErrTooLarge", n, err)
			}
		}

		// Adds up to the limit, one too many, an add that still fits.
		bd := create(1, 4)
		for _, p := range []string{"0123", "45678", "9012345678"} {
			testutil.Must(t, bd.Add([]byte(p)))
		}
		if err := bd.Add([]byte("xy")); !errors.Is(err, ibuf.ErrTooLarge) || bd.Len() != 19 {
			t.Errorf("Add over the limit: %v, %d bytes", err, bd.Len())
		}
		testutil.Check(t, bd.AddByte('!'))
		testutil.Equal(t, "queued before Commit", q.QueueLen(), 0)
		testutil.Must(t, bd.Commit())
		testutil.WantError(t, "second Commit", bd.Commit(), ibuf.ErrInvalid)
		bd.Discard() // does nothing
		testutil.Equal(t, "queue", q.QueueLen(), 1)

		// A lower limit of its own.
		bd = create(2, 0)
		testutil.WantError(t, "a higher limit", bd.SetMaxSize(21), ibuf.ErrTooLarge)
		testutil.Check(t, bd.SetMaxSize(3))
		testutil.WantError(t, "Add over the own limit", bd.Add([]byte("four")), ibuf.ErrTooLarge)
		bd.Add([]byte("2nd"))
		testutil.Check(t, bd.Commit())

		// Discarded, with a file; twice.
		p := testutil.NewProbe(t)
		bd = create(3, 0)
		bd.SetFile(p.W)
		bd.Discard()
		bd.Discard()
		testutil.WantClosed(t, "behind Discard", p)
		testutil.WantError(t, "Commit after Discard", bd.Commit(), ibuf.ErrInvalid)

		// A Commit that fails, and works when the reason is gone.
		p = testutil.NewProbe(t)
		bd = create(4, 0)
		bd.Add([]byte("0123456789"))
		bd.SetFile(p.W)
		testutil.Must(t, q.SetMaxSize(5))
		if err := bd.Commit(); !errors.Is(err, imsg.ErrTooLarge) || bd.Len() != 10 || !bd.HasFile() || q.QueueLen() != 2 {
			t.Errorf("Commit: %v, %d bytes, file %v, %d queued", err, bd.Len(), bd.HasFile(), q.QueueLen())
		}
		q.SetMaxSize(20)
		testutil.Check(t, bd.Commit())
		if p.Closed() {
			t.Error("the queued file is closed")
		}

		// Nothing at all, and nothing allowed.
		testutil.Check(t, create(5, 0).Commit())
		q.SetMaxSize(0)
		testutil.Check(t, create(6, 0).Commit())
		testutil.Must(t, flush())
		for _, want := range []struct {
			typ     uint32
			payload string
		}{{1, "0123456789012345678!"}, {2, "2nd"}, {4, "0123456789"}, {5, ""}, {6, ""}} {
			m := testutil.Receive(t, peer)
			if m.Header() != (imsg.Header{Type: want.typ, ID: 5, PID: int32(os.Getpid())}) || string(m.Bytes()) != want.payload {
				t.Errorf("%+v %q, want %+v", m.Header(), m.Bytes(), want)
			}
			if want.typ == 4 {
				p.WantIn(m)
			}
			m.Close()
		}
		if s := q.Stats().Sent; s.Messages != 5 || s.Files != 1 || s.Bytes != 5*16+33 {
			t.Errorf("counters %+v", s)
		}
	}
}

// TestBuilderWithoutRoom commits a message that has no payload and cannot get
// one: its buffer has no memory, and is not closed nevertheless.
func TestBuilderWithoutRoom(t *testing.T) {
	a, b := pairOf(t, nil)
	m, err := a.Create(imsg.Header{Type: 5}, 0)
	testutil.Must(t, err)
	testutil.Must(t, errors.Join(m.SetMaxSize(0), m.Commit(), a.Flush(testutil.DeadlineCtx(t))))
	testutil.ReceiveFrame(t, b, 5, 0).Close()
}
