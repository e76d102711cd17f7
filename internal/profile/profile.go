// Package profile has the names of the messages that programs exchange, and
// what is in their payloads: of the programs that proto knows, and of those
// that a user describes in a file, or a compiler in an object file.
package profile

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"example.org/imsg/internal/capture"
	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/got"
	"example.org/imsg/proto/ntpd"
	"example.org/imsg/proto/tmux"
)

// A Profile is what is known of one program's messages. A nil one knows
// nothing. It is safe for concurrent use.
type Profile struct {
	Name     string
	File     string   // that it was read from, or ""
	Legacy   bool     // the program speaks the legacy dialect
	programs []string // other base names of executables
	sockets  []string // parts of the paths of sockets
	types    map[uint32]string
	numbers  map[string]uint32   // of types, by their names as key writes them
	payloads map[uint32][]*ctype // the first that fits counts
	old      *Profile            // of versions that spoke the legacy dialect; or nil
	structs  []*ctype            // in order: of what a struct has in it comes first
}

func newProfile() *Profile {
	return &Profile{types: make(map[uint32]string), numbers: make(map[string]uint32), payloads: make(map[uint32][]*ctype)}
}

func (p *Profile) name(typ uint32, name string) {
	p.types[typ] = name
	if _, ok := p.numbers[key(name)]; !ok {
		p.numbers[key(name)] = typ
	}
}

// TypeName returns the name of a type of message, or "".
func (p *Profile) TypeName(typ uint32) string {
	if p == nil {
		return ""
	}
	return p.types[typ]
}

// TypeText returns the name of a type of message, or its number.
func (p *Profile) TypeText(typ uint32) string {
	if name := p.TypeName(typ); name != "" {
		return name
	}
	return strconv.FormatUint(uint64(typ), 10)
}

// TypeNumber returns the number of a type of message, by its name or itself.
// Case does not matter, nor does a prefix IMSG_ or MSG_.
func (p *Profile) TypeNumber(name string) (typ uint32, ok bool) {
	if p != nil {
		typ, ok = p.numbers[key(name)]
	}
	return typ, ok
}

// TypeNames returns the names of all types.
func (p *Profile) TypeNames() (names []string) {
	if p != nil {
		for _, name := range p.types {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func key(name string) string {
	name = strings.ToUpper(name)
	if rest, ok := strings.CutPrefix(name, "IMSG_"); ok {
		return rest
	}
	return strings.TrimPrefix(name, "MSG_")
}

//go:embed *.imsg
var files embed.FS

// builtin are the profiles that need no file. The tests make them, so that
// nothing can go wrong.
var builtin = sync.OnceValue(func() []*Profile {
	all, err := makeBuiltin()
	if err != nil {
		panic(err)
	}
	return all
})

// A known is what a package of proto knows of a program.
type known struct {
	typeName    func(uint32) string
	payloadType func(typ uint32, size int) reflect.Type
}

var packages = map[string]known{
	"bgpd":  {bgpd.TypeName, bgpd.PayloadType},
	"bgpd7": {bgpd.TypeNameLegacy, nil},
	"got":   {got.TypeName, got.PayloadType},
	"ntpd":  {ntpd.TypeName, ntpd.PayloadType},
	"tmux":  {tmux.TypeName, nil},
}

// makeBuiltin reads the files, and adds what the packages know.
func makeBuiltin() (all []*Profile, err error) {
	names, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		p, err := Parse(e.Name(), string(text))
		if err == nil {
			err = p.fromPackage(packages[p.Name])
		}
		if err != nil {
			return nil, err
		}
		if old, ok := strings.CutSuffix(p.Name, "7"); ok {
			all[slices.IndexFunc(all, func(p *Profile) bool { return p.Name == old })].old = p
		}
		all = append(all, p)
	}
	return all, nil
}

// Names returns the names of the profiles that are built in.
func Names() (names []string) {
	for _, p := range builtin() {
		names = append(names, p.Name)
	}
	return names
}

// maxFile is more than any profile has.
const maxFile = 4 << 20

// Load returns the profile of that name, or reads a file.
func Load(name string) (*Profile, error) {
	for _, p := range builtin() {
		if p.Name == name {
			return p, nil
		}
	}
	if info, err := os.Stat(name); err != nil {
		return nil, fmt.Errorf("no profile and no file %q: %s, or a file", name, strings.Join(Names(), ", "))
	} else if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%q is no profile: a file of at most %d bytes", name, maxFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p, err := Parse(name, string(text))
	if err == nil {
		p.File = name
	}
	return p, err
}

// A Chooser finds the profile for each message.
type Chooser struct {
	fixed   *Profile
	auto    bool
	channel map[int]*Profile // found before
	votes   map[int]map[*Profile]int
}

// Choose returns what a --profile flag asks for: "auto", "none", a name, or a
// file.
func Choose(name string) (*Chooser, error) {
	switch name {
	case "auto":
		return &Chooser{auto: true, channel: make(map[int]*Profile), votes: make(map[int]map[*Profile]int)}, nil
	case "none":
		return &Chooser{}, nil
	}
	p, err := Load(name)
	return &Chooser{fixed: p}, err
}

// HasType says whether a message could have a type of that name.
func (c *Chooser) HasType(name string) bool {
	has := func(p *Profile) bool { _, ok := p.TypeNumber(name); return ok }
	if c.auto {
		return slices.ContainsFunc(builtin(), has)
	}
	return has(c.fixed)
}

// Of returns the profile for r, or nil: by the programs at its ends or the path
// of its socket, or, if a program is not known, by what the channel's messages
// look like.
func (c *Chooser) Of(r *capture.Record) *Profile {
	if !c.auto {
		return c.fixed
	}
	p, ok := c.channel[r.Channel]
	if ok {
		return p
	}
	if p = For(r.Name, r.From.Exe, r.To.Exe); p == nil && r.From.Exe == "" && r.To.Exe == "" {
		p = c.vote(r)
	} else if p == nil {
		return nil
	}
	if p != nil && p.old != nil {
		var sure bool
		if p, sure = p.version(r); !sure {
			return p
		}
	}
	if p != nil {
		if len(c.channel) == manyChannels {
			clear(c.channel)
		}
		c.channel[r.Channel] = p
		delete(c.votes, r.Channel)
	}
	return p
}

// version tells whether r is of an old version, and whether that is sure.
func (p *Profile) version(r *capture.Record) (version *Profile, sure bool) {
	if r.Dialect != capture.Either {
		if r.Dialect == capture.Legacy {
			p = p.old
		}
		return p, true
	}
	// A struct of that very size says more than one that something follows.
	fits := func(p *Profile) int {
		for _, t := range p.payloads[r.Header.Type] {
			if _, err := t.decodeAll(r.Payload, nativeOr(r.Order)); err == nil && t.variable {
				return 1
			} else if err == nil {
				return 2
			}
		}
		return 0
	}
	now, before := fits(p), fits(p.old)
	if before > now {
		return p.old, true
	}
	return p, now > before
}

// manyChannels bounds what is kept of each channel: a hostile capture can have
// more than memory.
const manyChannels = 1 << 16

// For returns the profile of a program with a socket, or nil.
func For(socket string, exes ...string) *Profile {
	for _, p := range builtin() {
		for _, exe := range exes {
			if base := filepath.Base(exe); base == p.Name || slices.Contains(p.programs, base) {
				return p
			}
		}
	}
	for _, p := range builtin() {
		if slices.ContainsFunc(p.sockets, func(part string) bool { return strings.Contains(socket, part) }) {
			return p
		}
	}
	return nil
}

// Traffic decides when one profile has enough votes, and more than all others.
const enough = 3

// vote counts which profiles a message speaks for and against: a payload that
// fits a struct is worth most.
func (c *Chooser) vote(r *capture.Record) *Profile {
	votes := c.votes[r.Channel]
	if votes == nil {
		if len(c.votes) == manyChannels {
			clear(c.votes)
		}
		votes = make(map[*Profile]int)
		c.votes[r.Channel] = votes
	}
	var best *Profile
	rivals := 0
	for _, p := range builtin() {
		votes[p] += p.speaks(r)
		switch {
		case best == nil || votes[p] > votes[best]:
			best, rivals = p, 0
		case votes[p] == votes[best]:
			rivals++
		}
	}
	if rivals > 0 || votes[best] < enough {
		return nil
	}
	return best
}

func (p *Profile) speaks(r *capture.Record) int {
	if p.types[r.Header.Type] == "" {
		return -enough
	}
	if p.Name == "tmux" { // its protocol's version, and no pid, in every header
		if r.Header.ID&0xff == 8 && r.Header.PID == -1 {
			return enough
		}
		return -enough
	}
	if len(p.payloads[r.Header.Type]) == 0 || r.Cut() > 0 || len(r.Payload) == 0 {
		return 0
	}
	if _, err := p.Decode(r.Header.Type, r.Payload, r.Order); err != nil {
		return -enough
	}
	return enough - 1
}
