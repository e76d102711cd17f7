package privsep

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// The messages between the parent and a child on descriptor 3. The programs'
// own messages have channels of their own, which are passed over this one.
const (
	// The parent's.
	ctlHello  uint32 = 1 + iota // who the child is, and how many of the next three follow
	ctlRoot                     // the directory that is to be its root
	ctlConfig                   // a piece of the configuration
	ctlFile                     // a file, by name
	ctlPeer                     // the end of a channel; also later, in place of one that has ended
	ctlGo                       // everybody is ready: run
	ctlStop                     // end, please
	ctlPing                     // are you there?
	ctlLevel                    // from which level on to log
	ctlRights                   // the starter's, on descriptor 4: what a child is left with

	// The child's.
	ctlReady   // the rights are given up; with the status
	ctlFail    // a step of the start failed
	ctlLog     // a record of the log
	ctlReplace // a peer broke the rules of its requests, or its channel was lost: make another
	ctlPong    // yes
	ctlDone    // Run has returned
)

// A state is how far a child has come.
type state uint8

const (
	stateStarted state = 1 << iota // it does not know yet who it is
	stateGreeted                   // it does; it takes what was given to it, and gives up its rights
	stateReady                     // they are given up
	stateRunning                   // everybody is ready, and Run was called
	stateOver                      // Run has returned, or the start failed

	anyState = stateStarted | stateGreeted | stateReady | stateRunning | stateOver
)

type end uint8

const (
	byParent end = iota
	byChild
)

// transitions is the whole protocol: who sends a message, in which states,
// whether a file comes with it, and which state follows, 0 for the same. Both ends go by
// it, for what they receive and for what they send.
var transitions = map[uint32]struct {
	by   end
	in   state
	file bool
	next state
}{
	ctlHello:   {byParent, stateStarted, false, stateGreeted},
	ctlRoot:    {byParent, stateGreeted, true, 0},
	ctlConfig:  {byParent, stateGreeted, false, 0},
	ctlFile:    {byParent, stateGreeted, true, 0},
	ctlPeer:    {byParent, anyState &^ stateStarted, true, 0},
	ctlGo:      {byParent, stateReady, false, stateRunning},
	ctlStop:    {byParent, anyState, false, 0},
	ctlPing:    {byParent, anyState, false, 0},
	ctlLevel:   {byParent, anyState &^ (stateStarted | stateGreeted), false, 0},
	ctlReady:   {byChild, stateGreeted, false, stateReady},
	ctlFail:    {byChild, stateStarted | stateGreeted, false, stateOver},
	ctlLog:     {byChild, anyState, false, 0},
	ctlPong:    {byChild, anyState, false, 0},
	ctlReplace: {byChild, stateRunning, false, 0},
	ctlDone:    {byChild, stateRunning, false, stateOver},
}

// A session is the state of a child as one end of its control channel sees it.
type session struct {
	mu    sync.Mutex
	state state
}

func newSession() session { return session{state: stateStarted} }

// advance notes that a message was sent or received. The error is ErrProtocol if
// it may not be, or what became of its file.
func (s *session) advance(by end, typ uint32, file bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := transitions[typ]
	if !ok || t.by != by || t.in&s.state == 0 || file != t.file {
		return fmt.Errorf("%w: message type %d, file %t, in state %#x", ErrProtocol, typ, file, s.state)
	}
	if t.next != 0 {
		s.state = t.next
	}
	return nil
}

// received is advance for a message of the other end.
func (s *session) received(by end, m imsg.Message) error {
	if err := s.advance(by, m.Type(), m.HasFile() || m.FileErr() != nil); err != nil {
		return err
	}
	if err := m.FileErr(); err != nil {
		return fmt.Errorf("message type %d: %w", m.Type(), err)
	}
	return nil
}

const (
	controlFD     = 3
	rightsFD      = 4              // of a child of the starter
	envProcessors = "GOMAXPROCS"   // the Go runtime's
	envRole       = "PRIVSEP_ROLE" // daemon/role/instance, and /bound for a child of the starter
	protocol      = 1
	maxPayload    = imsg.DefaultMaxSize - imsg.HeaderSize
	maxConfig     = 1 << 20
	maxHello      = 1 << 20 // for a policy of many paths
)

// hello is the first message to a child.
type hello struct {
	Protocol int
	Build    string
	Role     string
	Instance int
	rights              // unless the starter says them
	Peers    []peerRole // a channel to each instance of each follows, and one to the parent
	Files    int        // and that many of these
	Config   int        // bytes
	Workers  int        // Role.Workers
	Narrow   bool       // it has one processor, until widen
	Level    slog.Level
	Grace    time.Duration
	Start    time.Duration // Daemon.StartTimeout, 0: no limit
}

// rights are what a child is left with.
type rights struct {
	Root      bool // a directory follows that is to be its root
	Chroot    string
	UID, GID  int  // -1: not changed
	Groups    bool // they become GID and Extra
	Extra     []int
	Processes int   // most of that user; 0: as they are
	Memory    int64 // Role.Memory
	OOMScore  int   // Role.OOMScore
	Sandbox   sandbox.Policy
	Dirs      bool // Daemon.Directories
}

// channels is the number of channels that follow.
func (h *hello) channels() int {
	n := 1 // the parent's
	for _, r := range h.Peers {
		n += r.Instances
	}
	return n
}

// peerRole is a role to whose processes there are channels.
type peerRole struct {
	Name      string
	Instances int
	Passes    bool // files may go over the channel
	Before    bool // it ends before this one
}

// peerName goes with an end of a channel.
type peerName struct {
	Role     string
	Instance int
}

// replace says to which peer a channel is needed, and why.
type replace struct {
	peerName
	Text string
	Lost bool // it never came
}

func newReplace(name peerName, err error, lost bool) replace {
	return replace{name, err.Error()[:min(len(err.Error()), maxText)], lost}
}

// marshal encodes what goes over a control channel; all of it can be encoded.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// unmarshal decodes a message.
func unmarshal(m imsg.Message, v any) error {
	if err := json.Unmarshal(m.Bytes(), v); err != nil {
		return fmt.Errorf("%w: message type %d: %w", ErrProtocol, m.Type(), err)
	}
	return nil
}

// newChannel makes a channel: the near side of it, which may send and receive
// files, and the descriptor of the far one, which is the caller's to give away or
// to close.
func newChannel(send, receive bool) (near *imsg.Conn, far int, err error) {
	fd, far, err := unixmsg.Pair(true)
	if err != nil {
		return nil, -1, err
	}
	if !receive {
		refuseFiles(fd)
	}
	if near, err = newConn(fd, send || receive); err != nil {
		unix.Close(far)
		return nil, -1, err
	}
	return near, far, nil
}

// refuseFiles keeps the kernel from passing files to the holder of a socket, where
// it can: who receives one must close it, which may take as long as who sent it
// likes (see SO_LINGER in socket(7)).
func refuseFiles(fd int) { _ = unixmsg.SetPassRights(fd, false) }

// newConn makes one side of a channel of a descriptor, which it takes in any case.
func newConn(fd int, files bool) (*imsg.Conn, error) {
	c, err := imsg.NewConn(fd, &imsg.Config{AllowFDPass: files, MaxQueueFiles: 1 << 16})
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return c, err
}
