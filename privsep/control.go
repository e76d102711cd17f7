package privsep

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// The messages between the parent and a child on descriptor 3. The programs'
// own messages have channels of their own, which are passed over this one.
const (
	// The parent's. First hello, with the number of those that follow: the
	// pieces of the configuration, the files by name, the ends of channels.
	ctlHello uint32 = 1 + iota
	ctlConfig
	ctlFile
	ctlPeer // also later, when a peer was started again
	ctlGo   // everybody is ready: run
	ctlStop // end, please

	// The child's. First ready or fail; then records of its log, and at the
	// end done.
	ctlReady
	ctlFail
	ctlLog
	ctlDone
	ctlBroken // a peer of the child's has broken the rules of its requests
)

const (
	controlFD  = 3
	envRole    = "PRIVSEP_ROLE" // daemon/role/instance
	protocol   = 1
	maxPayload = imsg.DefaultMaxSize - imsg.HeaderSize
	maxConfig  = 1 << 20
)

// hello is the first message to a child.
type hello struct {
	Protocol int
	Build    string
	Role     string
	Instance int
	Root     bool // whether the parent is root, and the child changes ids and root
	UID, GID int  // -1: not changed
	Chroot   string
	Sandbox  sandbox.Policy
	Peers    []peerRole // a channel to each instance of each follows, and one to the parent
	Files    int        // and that many of these
	Config   int        // bytes
	Dirs     bool       // Daemon.Directories
	Workers  int        // Role.Workers
	Level    slog.Level
	Grace    time.Duration
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

// broken says which peer has broken the rules, and how.
type broken struct {
	peerName
	Text string
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
		return fmt.Errorf("%w: message type %d: %v", ErrProtocol, m.Type(), err)
	}
	return nil
}

// expect receives a message of one type, with a file if it is to have one.
func expect(ctx context.Context, c *imsg.Conn, typ uint32, file bool) (imsg.Message, error) {
	m, err := c.Receive(ctx)
	if err != nil {
		return m, err
	}
	if err := m.FileErr(); err != nil {
		m.Close()
		return imsg.Message{}, fmt.Errorf("message type %d: %w", typ, err)
	}
	if m.Type() != typ || m.HasFile() != file {
		err := fmt.Errorf("%w: message type %d, file %t, instead of type %d, file %t", ErrProtocol, m.Type(), m.HasFile(), typ, file)
		m.Close()
		return imsg.Message{}, err
	}
	return m, nil
}

// newChannel makes a channel: the near side of it, and the descriptor of the far
// one, which is the caller's to give away or to close.
func newChannel(files bool) (near *imsg.Conn, far int, err error) {
	fd, far, err := unixmsg.Pair(true)
	if err != nil {
		return nil, -1, err
	}
	if near, err = newConn(fd, files); err != nil {
		unix.Close(far)
		return nil, -1, err
	}
	return near, far, nil
}

// newConn makes one side of a channel of a descriptor, which it takes in any case.
func newConn(fd int, files bool) (*imsg.Conn, error) {
	c, err := imsg.NewConn(fd, &imsg.Config{AllowFDPass: files, MaxQueueFiles: 1 << 16})
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return c, err
}
