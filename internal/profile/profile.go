// Package profile has the names of the messages that programs exchange, and
// what is in their payloads: of the programs that proto knows, and of those
// that a user describes in a file.
package profile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"example.org/imsg/internal/capture"
	"example.org/imsg/proto/tmux"
)

// A Profile is what is known of one program's messages. A nil one knows
// nothing. It is safe for concurrent use.
type Profile struct {
	Name     string
	programs []string // base names of executables, the name included
	sockets  []string // parts of the paths of sockets
	types    map[uint32]string
	numbers  map[string]uint32          // of types, by their names as key writes them
	match    func(*capture.Record) bool // a message alone tells; may be nil
}

// TypeName returns the name of a type of message, or "".
func (p *Profile) TypeName(typ uint32) string {
	if p == nil {
		return ""
	}
	return p.types[typ]
}

// TypeNumber returns the number of a type of message. Case does not matter,
// nor does a prefix IMSG_ or MSG_.
func (p *Profile) TypeNumber(name string) (typ uint32, ok bool) {
	if p != nil {
		typ, ok = p.numbers[key(name)]
	}
	return typ, ok
}

func key(name string) string {
	name = strings.ToUpper(name)
	if rest, ok := strings.CutPrefix(name, "IMSG_"); ok {
		return rest
	}
	return strings.TrimPrefix(name, "MSG_")
}

// lastType is the highest number that a program's own function is asked for.
const lastType = 1 << 10

// of sets the names of types.
func (p *Profile) of(name func(uint32) string) *Profile {
	p.types, p.numbers = make(map[uint32]string), make(map[string]uint32)
	for typ := range uint32(lastType) {
		if s := name(typ); s != "" {
			p.types[typ], p.numbers[key(s)] = s, typ
		}
	}
	return p
}

var builtin = []*Profile{
	(&Profile{
		Name: "tmux", sockets: []string{"/tmux-"},
		match: func(r *capture.Record) bool {
			return r.Header.ID&0xff == 8 && r.Header.PID == -1 && tmux.TypeName(r.Header.Type) != ""
		},
	}).of(tmux.TypeName),
}

// Names returns the names of the profiles that are built in.
func Names() (names []string) {
	for _, p := range builtin {
		names = append(names, p.Name)
	}
	return names
}

// A Chooser finds the profile for each message.
type Chooser struct {
	fixed   *Profile
	auto    bool
	channel map[int]*Profile // found before
}

// Choose returns what a --profile flag asks for: "auto", "none", or a name.
func Choose(name string) (*Chooser, error) {
	switch name {
	case "auto":
		return &Chooser{auto: true, channel: make(map[int]*Profile)}, nil
	case "none":
		return &Chooser{}, nil
	}
	for _, p := range builtin {
		if p.Name == name {
			return &Chooser{fixed: p}, nil
		}
	}
	return nil, fmt.Errorf("no profile %q: auto, none, or one of %s", name, strings.Join(Names(), ", "))
}

// HasType says whether a message could have a type of that name.
func (c *Chooser) HasType(name string) bool {
	if !c.auto {
		_, ok := c.fixed.TypeNumber(name)
		return ok
	}
	return slices.ContainsFunc(builtin, func(p *Profile) bool { _, ok := p.TypeNumber(name); return ok })
}

// Of returns the profile for r, or nil: by the programs at its ends, the path
// of its socket, or the message itself.
func (c *Chooser) Of(r *capture.Record) *Profile {
	if !c.auto {
		return c.fixed
	}
	if p, ok := c.channel[r.Channel]; ok {
		return p
	}
	for _, p := range builtin {
		if p.is(r) {
			c.channel[r.Channel] = p
			return p
		}
	}
	return nil
}

func (p *Profile) is(r *capture.Record) bool {
	for _, e := range []capture.Endpoint{r.From, r.To} {
		if base := filepath.Base(e.Exe); base == p.Name || slices.Contains(p.programs, base) {
			return true
		}
	}
	for _, s := range p.sockets {
		if strings.Contains(r.Name, s) {
			return true
		}
	}
	return p.match != nil && p.match(r)
}
