package bgpd

import (
	"context"
	"io"
	"reflect"

	"example.org/imsg"
	"example.org/imsg/proto/control"
)

const program = "bgpd"

// DefaultSocket is where OpenBGPD listens on OpenBSD in routing domain 0. The
// portable version listens on /run/openbgpd/bgpd.sock, or where its configuration
// says.
const DefaultSocket = "/var/run/bgpd.sock.0"

// A Config says how a Client behaves. The zero Config, which nil stands for, is
// right for most programs.
type Config struct {
	// Dialect is "current" (OpenBGPD 8.7 and later), "legacy" (earlier ones), or
	// "" or "auto" to find out.
	Dialect string
}

// A version is what differs between those of the daemon.
type version struct {
	name         string
	legacy       bool // the dialect, and numbers of types
	microseconds bool // of times
	request      func(*Filter) ([]byte, error)
	route        func() func([]byte, *Route) error
}

// versions are known by the sizes of struct peer and struct rde_memstats. The
// first one counts.
var versions = []struct {
	peer, memory reflect.Type
	version
}{
	{reflect.TypeFor[peer77](), reflect.TypeFor[rdeMemstats77](), version{"7.7", true, false, request77, route77}},
	{reflect.TypeFor[peer88](), reflect.TypeFor[rdeMemstats88](), version{"8.8", false, false, request88, route88}},
	{reflect.TypeFor[peer89](), reflect.TypeFor[rdeMemstats88](), version{"8.9", false, true, request88, route89}},
	{reflect.TypeFor[peer89](), reflect.TypeFor[rdeMemstats90](), version{"9.0", false, true, request88, route89}},
	{reflect.TypeFor[ctlPeer92](), reflect.TypeFor[rdeMemstats91](), version{"9.2 or later", false, true, request88, route89}},
	{reflect.TypeFor[peer91](), reflect.TypeFor[rdeMemstats91](), version{"9.1", false, true, request88, route89}},
}

// A Client asks one daemon. It keeps no connection open: each call makes one,
// as bgpctl does, and no two requests are on one. Its methods may be called by
// many goroutines at a time.
type Client struct {
	socket  control.Socket
	version *version
}

// maxPayload is what OpenBGPD 8.7 and later send.
const maxPayload = 128 << 10

// Dial asks the daemon that listens on socket what tells its version, and with
// it its dialect, layouts and sizes. cfg may be nil. The error is a
// *control.Error; it unwraps to a *control.SizeError for an unknown version.
func Dial(ctx context.Context, socket string, cfg *Config) (*Client, error) {
	c := &Client{socket: control.Socket{Program: program, Path: socket, TypeName: TypeName}, version: &version{}}
	if cfg == nil {
		cfg = &Config{}
	}
	dialects, err := control.Dialects(cfg.Dialect)
	if err != nil {
		return nil, c.socket.Fail("dial", err)
	}
	for _, c.socket.Dialect = range dialects {
		if c.version, err = c.probe(ctx); err == nil {
			break
		}
	}
	if err != nil {
		return nil, c.socket.Fail("dial", err)
	}
	c.socket.Version = c.version.name
	if c.version.legacy {
		c.socket.Dialect, c.socket.TypeName = imsg.Legacy, TypeNameLegacy
	} else {
		c.socket.Dialect, c.socket.MaxSize = imsg.Current, maxPayload
	}
	return c, nil
}

// Version returns the version that Dial found, such as "8.8": the last that is
// known to have these layouts.
func (c *Client) Version() string { return c.version.name }

// Dialect returns the dialect that the daemon speaks.
func (c *Client) Dialect() imsg.Dialect { return c.socket.Dialect }

// probe finds out the version. What asks for the memory since 8.0 asked for the
// neighbors before, as CTL_SHOW_TERSE. That is not asked on purpose: 9.3 ends
// with a segmentation fault if a neighbor is just being configured.
func (c *Client) probe(ctx context.Context) (*version, error) {
	memory, peer, typ := -1, -1, uint32(msgShowMemory)
	for asked := range 2 {
	answers:
		for m, err := range c.socket.Ask(ctx, typ, nil) {
			if err != nil {
				return nil, err
			}
			switch m.Type() {
			case msgShowMemory - 1, msgShowMemory:
				memory = m.Len()
				break answers
			case msgShowNeighbor:
				peer = m.Len()
				break answers
			case msgEnd: // no neighbors
				break answers
			case msgResult:
				return nil, result(m)
			default:
				return nil, c.socket.Unexpected(typ, m)
			}
		}
		// The other one of the two.
		switch {
		case asked > 0:
		case memory >= 0:
			if _, err := find(-1, memory); err != nil {
				return nil, err
			}
			typ = msgShowNeighbor
		default:
			typ = msgShowMemory - 1
		}
	}
	return find(peer, memory)
}

// find returns the version with the sizes; -1 is unknown.
func find(peer, memory int) (*version, error) {
	known := false
	for i := range versions {
		v := &versions[i]
		if memory >= 0 && memory != memoryDecoder.SizeOf(v.memory) {
			continue
		}
		if known = true; peer < 0 || peer == neighborDecoder.SizeOf(v.peer) {
			return &v.version, nil
		}
	}
	if !known {
		return nil, memoryDecoder.SizeError(memory)
	}
	return nil, neighborDecoder.SizeError(peer)
}

// typ returns the number that the daemon has for a type which moved.
func (c *Client) typ(typ uint32) uint32 {
	if c.version.legacy {
		return typ - 1
	}
	return typ
}

func (c *Client) typeName(typ uint32) string { return c.socket.TypeName(typ) }

// result returns the error that a message says. That a request succeeded is no
// answer to a question.
func result(m imsg.Message) error {
	if m.Len() != 4 {
		return &control.SizeError{Program: program, Type: msgResult, Name: TypeName(msgResult), Size: m.Len(), Known: []int{4}}
	}
	code, _ := m.GetHost32()
	return &ResultError{code}
}

// maxItems bounds what one answer may hold but routes.
const maxItems = 10000

// collect sends a request and decodes the messages of the type item, up to the
// end or until take returns false.
func collect[T any](ctx context.Context, c *Client, typ, item uint32, decode func(imsg.Message, *T) error, take func(*T) bool) error {
	n := 0
	for m, err := range c.socket.Ask(ctx, typ, nil) {
		if err != nil {
			return err
		}
		switch m.Type() {
		case msgEnd:
			return nil
		case msgResult:
			return c.socket.Fail(c.typeName(typ), result(m))
		case item:
		default:
			return c.socket.Unexpected(typ, m)
		}
		if n++; n > maxItems {
			return c.socket.TooMany(typ, maxItems)
		}
		var v T
		if err := decode(m, &v); err != nil {
			return c.socket.Fail(c.typeName(typ), err)
		}
		if !take(&v) {
			return nil
		}
	}
	return io.ErrUnexpectedEOF // not reached: the loop ends with an error
}
