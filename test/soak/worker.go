package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// A worker is this program with workerEnv set. Its end of the channel is
// descriptor 3, the memory that it shares with the parent is behind 4.
const (
	workerEnv = "IMSG_SOAK_WORKER"
	channelFD = 3
	sharedFD  = 4
)

// work is the main function of a worker. A discrepancy ends it with status 3.
func work() {
	before := imsgtest.OpenFDs()
	sh, err := mapShared(sharedFD)
	if err != nil {
		die(err)
	}
	fail := func(err error) { die(fmt.Errorf("%v: worker: %w", &sh.order, err)) }
	st := &stock{fail: fail}
	if sh.order.buf {
		err = workBuf(sh, st)
	} else {
		err = workConn(sh, st)
	}
	if err != nil {
		fail(err)
	}
	st.close()
	for fd, name := range imsgtest.OpenFDs() {
		if _, ok := before[fd]; !ok || fd == channelFD {
			fail(fmt.Errorf("descriptor %d (%s) is left", fd, name))
		}
	}
}

func die(err error) {
	fmt.Fprintln(os.Stderr, "soak:", err)
	os.Exit(3)
}

// workConn works with goroutines.
func workConn(sh *shared, st *stock) error {
	o := &sh.order
	conn, err := imsg.NewConn(channelFD, o.config(workerSide))
	if err != nil {
		return err
	}
	if err := conn.SetMaxSize(int(o.max)); err != nil {
		return err
	}
	l := newLink(o, workerSide, conn, &sh.book)
	l.fail, l.file, l.inbox.deliver = st.fail, st.take, st.deliver
	l.start()
	var life <-chan time.Time
	if o.ending == workerCloses {
		life = time.After(o.life)
	}
	select {
	case <-life:
	case <-l.received:
	case <-l.finned:
		l.finish()
		<-l.received
		l.book.seal(conn.Stats())
	}
	err = conn.Close()
	l.stop()
	<-l.received
	return err
}

// A stock holds files that have come, to be sent again. Many goroutines may use
// it.
type stock struct {
	fail  func(error)
	mu    sync.Mutex
	files []*os.File
}

const maxStock = 4

// deliver keeps the file of a message, as far as there is room.
func (s *stock) deliver(_ stamp, _ imsg.Message, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) < maxStock && f != nil {
		s.files = append(s.files, f)
		return
	}
	f.Close()
}

func (s *stock) take() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil
	}
	f := s.files[0]
	s.files = s.files[1:]
	return f
}

func (s *stock) close() {
	for f := s.take(); f != nil; f = s.take() {
		if err := f.Close(); err != nil {
			s.fail(errors.New("a file of the stock was closed by somebody else"))
		}
	}
}
