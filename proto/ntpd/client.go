package ntpd

import (
	"context"
	"fmt"
	"io"
	"os"

	"example.org/imsg"
	"example.org/imsg/proto/control"
)

// A Config says how a Client behaves. The zero Config, which nil stands for, is
// right for most programs.
type Config struct {
	// Dialect is "current" (OpenNTPD 7.9 and later), "legacy" (earlier ones),
	// or "" or "auto" to find out.
	Dialect string
}

// A Client asks one daemon. It keeps no connection open: each call makes one,
// as ntpctl does. Its methods may be called by many goroutines at a time.
type Client struct{ socket control.Socket }

// sockets are where ntpd listens: on OpenBSD, and what Debian compiles in.
var sockets = []string{"/var/run/ntpd.sock", "/run/openntpd/ntpd.sock", "/var/lib/openntpd/run/ntpd.sock"}

// DefaultSocket returns the first of the usual paths at which there is a file,
// and OpenBSD's if there is none.
func DefaultSocket() string {
	for _, path := range sockets {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return sockets[0]
}

// Dial asks the daemon that listens on socket for its status, which tells its
// version and dialect. cfg may be nil. The error is a *control.Error.
func Dial(ctx context.Context, socket string, cfg *Config) (*Client, error) {
	c := &Client{control.Socket{Program: program, Path: socket, TypeName: TypeName}}
	if cfg == nil {
		cfg = &Config{}
	}
	dialects, err := control.Dialects(cfg.Dialect)
	if err != nil {
		return nil, c.socket.Fail("dial", err)
	}
	for _, c.socket.Dialect = range dialects {
		_, err = c.Status(ctx)
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}

// Dialect returns the dialect of the daemon, as Dial found it. On a little-endian
// machine that is Current unless Config says otherwise: here it makes no
// difference.
func (c *Client) Dialect() imsg.Dialect { return c.socket.Dialect }

// Status asks for the state of the clock.
func (c *Client) Status(ctx context.Context) (Status, error) {
	a, err := c.ask(ctx, msgStatus, msgStatus)
	return a.Status, err
}

// Peers asks for the peers, in the order of the configuration.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	a, err := c.ask(ctx, msgPeers, msgPeersEnd)
	return a.Peers, err
}

// Sensors asks for the sensors.
func (c *Client) Sensors(ctx context.Context) ([]Sensor, error) {
	a, err := c.ask(ctx, msgSensors, msgSensorsEnd)
	return a.Sensors, err
}

// All is everything that a daemon tells, at one time.
type All struct {
	Status  Status
	Peers   []Peer
	Sensors []Sensor
}

// All asks for the status, the peers and the sensors in one request, as
// ntpctl -s all does.
func (c *Client) All(ctx context.Context) (All, error) { return c.ask(ctx, msgAll, msgAllEnd) }

// maxItems bounds what one answer may hold. A configuration has a few.
const maxItems = 10000

// ask sends a request and collects what comes, up to a message of the type
// last.
func (c *Client) ask(ctx context.Context, typ, last uint32) (All, error) {
	var a All
	status, peer, sensor := statusDecoder.Open(), peerDecoder.Open(), sensorDecoder.Open()
	for m, err := range c.socket.Ask(ctx, typ, nil) {
		if err != nil {
			return All{}, err
		}
		if len(a.Peers)+len(a.Sensors) > maxItems {
			return All{}, c.socket.TooMany(typ, maxItems)
		}
		switch got := m.Type(); {
		case got == msgStatus && (typ == msgStatus || typ == msgAll):
			err = status(m, &a.Status)
		case got == msgPeers && (typ == msgPeers || typ == msgAll):
			a.Peers = append(a.Peers, Peer{})
			err = peer(m, &a.Peers[len(a.Peers)-1])
		case got == msgSensors && (typ == msgSensors || typ == msgAll):
			a.Sensors = append(a.Sensors, Sensor{})
			err = sensor(m, &a.Sensors[len(a.Sensors)-1])
		case got == msgPeersEnd && (typ == msgPeers || typ == msgAll):
			err = checkCount(m, len(a.Peers))
		case got == msgSensorsEnd && (typ == msgSensors || typ == msgAll):
			err = checkCount(m, len(a.Sensors))
		case got == msgAllEnd && typ == msgAll:
		default:
			return All{}, c.socket.Unexpected(typ, m)
		}
		if err != nil {
			return All{}, c.socket.Fail(TypeName(typ), err)
		}
		if m.Type() == last {
			return a, nil
		}
	}
	return All{}, io.ErrUnexpectedEOF // not reached: the loop ends with an error
}

// checkCount checks how many there were.
func checkCount(m imsg.Message, n int) error {
	if m.Len() != 4 {
		return &control.SizeError{Program: program, Type: m.Type(), Name: TypeName(m.Type()), Size: m.Len(), Known: []int{4}}
	}
	if want, _ := m.GetHost32(); want != uint32(n) {
		return fmt.Errorf("%s says that there are %d, but %d came", TypeName(m.Type()), want, n)
	}
	return nil
}
