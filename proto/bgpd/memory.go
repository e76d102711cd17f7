package bgpd

import (
	"context"
	"time"

	"example.org/imsg/proto/control"
)

// NotTold is a number of an Entry that the daemon does not tell.
const NotTold = -1

// An Entry is one kind of objects in the memory of the route decision engine.
type Entry struct {
	Name       string // as bgpctl calls it: "rib", "IPv4 unicast", ...
	Count      int64
	Size       int64 // in bytes; NotTold if it is the count times the size of a struct of the daemon's
	References int64
}

// Memory is what the route decision engine holds.
type Memory struct {
	Entries []Entry
	Sets    []Entry // "as_set", "prefix_set", "aspa_set"
	Tables  int64   // of AS sets
	Queues  []Entry // since 9.0: "ibuf_queue", "rib_entry"

	// Since 9.0: how often the event loop has run, and how long its parts took.
	Loops int64
	Times []Stage
}

// A Stage is a part of the event loop.
type Stage struct {
	Name string // "main", "io", "peer", "adjout", "ribdumps", "nexthop", "update"
	Time time.Duration
}

var memoryDecoder = control.Decoder[Memory]{Program: program, Type: msgShowMemory, Name: TypeName(msgShowMemory), Variants: []control.Variant[Memory]{
	control.VariantOf(func(c *rdeMemstats91, m *Memory) { fillMemory(c, m) }),
	control.VariantOf(func(c *rdeMemstats90, m *Memory) { fillMemory(c, m) }),
	control.VariantOf(func(c *rdeMemstats88, m *Memory) { fillMemory(c, m) }),
	control.VariantOf(func(c *rdeMemstats77, m *Memory) { fillMemory(c, m) }),
}}

// fillMemory sets m from a struct rde_memstats.
func fillMemory(c any, m *Memory) {
	s := fieldsOf(c)
	*m = Memory{Tables: s.number("AsetCnt")}
	for f := range 8 {
		if n := s.element("PtCnt", f); n > 0 {
			m.Entries = append(m.Entries, Entry{Family(f).String(), n, s.element("PtSize", f), NotTold})
		}
	}
	add := func(to *[]Entry, name, count, size, references string) {
		if s.has(count) {
			*to = append(*to, Entry{name, s.number(count), s.number(size), s.number(references)})
		}
	}
	add(&m.Entries, "rib", "RIBCnt", "", "")
	add(&m.Entries, "prefix", "PrefixCnt", "", "")
	add(&m.Entries, "adjout_prefix", "AdjoutPrefixCnt", "AdjoutPrefixSize", "")
	add(&m.Entries, "pend_attr", "PendAttrCnt", "", "")
	add(&m.Entries, "pend_prefix", "PendPrefixCnt", "", "")
	add(&m.Entries, "adjout_attr", "AdjoutAttrCnt", "", "AdjoutAttrRefs")
	add(&m.Entries, "rde_aspath", "PathCnt", "", "PathRefs")
	add(&m.Entries, "aspath", "AspathCnt", "AspathSize", "")
	add(&m.Entries, "community_entries", "CommCnt", "", "")
	add(&m.Entries, "community", "CommNmemb", "", "CommRefs")
	add(&m.Entries, "attributes_entries", "AttrCnt", "", "AttrRefs")
	add(&m.Entries, "attributes", "AttrDcnt", "AttrData", "")
	add(&m.Entries, "bitmap", "BitmapCnt", "BitmapSize", "")
	add(&m.Entries, "hashtable", "HashCnt", "HashSize", "HashRefs")
	add(&m.Entries, "filter", "FilterCnt", "FilterSize", "FilterRefs")
	add(&m.Entries, "filter_set", "FilterSetCnt", "FilterSetSize", "FilterSetRefs")
	add(&m.Sets, "as_set", "AsetNmemb", "AsetSize", "")
	add(&m.Sets, "prefix_set", "PsetCnt", "PsetSize", "")
	add(&m.Sets, "aspa_set", "AspaCnt", "AspaSize", "")
	add(&m.Queues, "ibuf_queue", "RDEIbufqMsgCount", "RDEIbufqPayloadSize", "")
	add(&m.Queues, "rib_entry", "RDERIBEntryCount", "", "")
	if s.has("RDEEventLoopCount") {
		m.Loops = s.number("RDEEventLoopCount")
	}
	for _, part := range [][2]string{
		{"main", "RDEEventLoopUsec"}, {"io", "RDEEventIoUsec"}, {"peer", "RDEEventPeerUsec"}, {"adjout", "RDEEventAdjoutUsec"},
		{"ribdumps", "RDEEventRibdumpUsec"}, {"nexthop", "RDEEventNexthopUsec"}, {"update", "RDEEventUpdateUsec"},
	} {
		if s.has(part[1]) {
			m.Times = append(m.Times, Stage{part[0], control.Milliseconds(float64(s.number(part[1])) / 1000)})
		}
	}
}

// Memory asks what the route decision engine holds.
func (c *Client) Memory(ctx context.Context) (Memory, error) {
	var m Memory
	typ := c.typ(msgShowMemory)
	err := collect(ctx, c, typ, typ, memoryDecoder.Open(), func(v *Memory) bool {
		m = *v
		return false
	})
	return m, err
}

// A Set is a set of prefixes or AS numbers that filters use.
type Set struct {
	Name       string
	Type       SetType
	LastChange time.Time // zero: never
	IPv4, IPv6 uint64    // prefixes
	AS         uint64    // AS numbers
}

// A SetType is a kind of set.
type SetType uint32

var setTypeNames = [...]string{"ASNUM", "PREFIX", "ORIGIN", "ROA", "ASPA"}

// String returns "ASNUM", "PREFIX", "ORIGIN", "ROA" or "ASPA".
func (t SetType) String() string {
	if int64(t) < int64(len(setTypeNames)) {
		return setTypeNames[t]
	}
	return "unknown"
}

// setDecoders are for times in seconds and in microseconds: the sizes are the
// same.
var setDecoders = [2]control.Decoder[Set]{
	{Program: program, Type: msgShowSet, Name: TypeName(msgShowSet), Variants: []control.Variant[Set]{
		control.VariantOf(func(c *ctlShowSet88, s *Set) {
			*s = Set{c.Name, SetType(c.Type), readClock().seconds(c.Lastchange), c.V4Cnt, c.V6Cnt, c.ASCnt}
		}),
	}},
	{Program: program, Type: msgShowSet, Name: TypeName(msgShowSet), Variants: []control.Variant[Set]{
		control.VariantOf(func(c *ctlShowSet89, s *Set) {
			*s = Set{c.Name, SetType(c.Type), readClock().microseconds(c.Lastchange.Monotime), c.V4Cnt, c.V6Cnt, c.ASCnt}
		}),
	}},
}

// Sets asks for the sets.
func (c *Client) Sets(ctx context.Context) (sets []Set, err error) {
	d := &setDecoders[0]
	if c.version.microseconds {
		d = &setDecoders[1]
	}
	typ := c.typ(msgShowSet)
	err = collect(ctx, c, typ, typ, d.Open(), func(s *Set) bool {
		sets = append(sets, *s)
		return true
	})
	return sets, err
}

// A Table is a routing table that routes are written to.
type Table struct {
	ID          int
	Description string // name of its RIB
	Coupled     bool   // routes are written to it
	AdminChange bool   // Coupled is not what the configuration says
}

var tableDecoder = control.Decoder[Table]{Program: program, Type: msgShowTables, Name: TypeName(msgShowTables), Variants: []control.Variant[Table]{
	control.VariantOf(func(c *ktable88, t *Table) {
		*t = Table{int(min(c.Rtableid, 1<<31-1)), c.Descr, c.FIBSync != 0, c.FIBConf != c.FIBSync}
	}),
	control.VariantOf(func(c *ktable77, t *Table) {
		*t = Table{int(min(c.Rtableid, 1<<31-1)), c.Descr, c.FIBSync != 0, c.FIBConf != c.FIBSync}
	}),
}}

// Tables asks for the routing tables. A restricted socket refuses that.
func (c *Client) Tables(ctx context.Context) (tables []Table, err error) {
	typ := c.typ(msgShowTables)
	err = collect(ctx, c, typ, typ, tableDecoder.Open(), func(t *Table) bool {
		tables = append(tables, *t)
		return true
	})
	return tables, err
}
