package got

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"example.org/imsg/ibuf"
	"example.org/imsg/payload"
)

// A Commit is what a commit object holds. Texts are as they are there, and not
// for a terminal.
type Commit struct {
	Tree              ID
	Parents           []ID
	Author, Committer Person
	Headers           string // lines behind the committer's: encoding, gpgsig
	Message           string
}

// A Person did something at a time, which is in their zone.
type Person struct {
	Name string // with the address: "Inter Op <io@example.org>"
	Time time.Time
}

// A TreeEntry is a line of a tree object.
type TreeEntry struct {
	Name string
	Mode uint32 // as git has it: 0o40000 is a tree, 0o120000 a symbolic link, 0o160000 a commit, others are files
	ID   ID
}

// A Tag is what a tag object holds.
type Tag struct {
	Object  ID     // that it is about
	Type    string // of Object: "commit", "tree", "blob" or "tag"
	Name    string
	Tagger  Person
	Headers string // lines behind the tagger's
	Message string
}

// A Reader is a running helper that reads objects of one kind. Its methods may be
// called by one goroutine at a time.
type Reader[T any] struct {
	h       *helper
	request uint32
	answer  func(context.Context, *helper) (T, error)
}

// Commits starts got-read-commit. It is killed when ctx ends; the caller must
// Close it.
func (h *Helpers) Commits(ctx context.Context) (*Reader[Commit], error) {
	return newReader(ctx, h, "got-read-commit", msgCommitRequest, commit)
}

// Trees starts got-read-tree, as Commits does. A tree has at most 1048576
// entries.
func (h *Helpers) Trees(ctx context.Context) (*Reader[[]TreeEntry], error) {
	return newReader(ctx, h, "got-read-tree", msgTreeRequest, tree)
}

// Tags starts got-read-tag, as Commits does.
func (h *Helpers) Tags(ctx context.Context) (*Reader[Tag], error) {
	return newReader(ctx, h, "got-read-tag", msgTagRequest, tag)
}

func newReader[T any](ctx context.Context, h *Helpers, name string, request uint32, answer func(context.Context, *helper) (T, error)) (*Reader[T], error) {
	p, err := h.start(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Reader[T]{p, request, answer}, nil
}

// Read reads an object from its file, which stays the caller's; its offset is
// shared with the helper. OpenLoose opens such a file. After an error the helper
// has ended, or cannot be used any more.
func (r *Reader[T]) Read(ctx context.Context, id ID, object *os.File) (v T, err error) {
	defer r.h.endAfter(&err)
	if err := r.h.request(ctx, r.request, id, object); err != nil {
		return v, err
	}
	return r.answer(ctx, r.h)
}

// Close ends the helper and waits for it. The error is that of its end.
func (r *Reader[T]) Close() error { return r.h.close() }

// Limits of what is kept in memory.
const (
	maxText    = 64 << 20
	maxEntries = 1 << 20
)

// commit receives a commit.
func commit(ctx context.Context, h *helper) (c Commit, err error) {
	var text uint64
	err = h.receive(ctx, msgCommit, func(data []byte) error {
		c, text, err = decodeCommit(data)
		return err
	})
	if err != nil {
		return Commit{}, err
	}
	c.Headers, c.Message, err = h.text(ctx, msgCommitText, text)
	return c, err
}

// decodeCommit decodes the payload of msgCommit. text is the size of what
// follows in other messages.
func decodeCommit(data []byte) (c Commit, text uint64, err error) {
	var m commitMessage
	v := ibuf.NewView(data)
	if err := payload.GetStruct(&v, &m); err != nil {
		return c, 0, err
	}
	v = ibuf.NewView(m.Rest)
	if c.Tree, err = m.Tree.id(); err != nil {
		return c, 0, err
	}
	if c.Author, err = person(&v, m.AuthorLen, m.AuthorTime, m.AuthorZone); err != nil {
		return c, 0, err
	}
	if c.Committer, err = person(&v, m.CommitterLen, m.CommitterTime, m.CommitterZone); err != nil {
		return c, 0, err
	}
	for range m.Parents {
		var o objectID
		if err := payload.GetStruct(&v, &o); err != nil {
			return c, 0, err
		}
		id, err := o.id()
		if err != nil {
			return c, 0, err
		}
		c.Parents = append(c.Parents, id)
	}
	return c, m.TextLen, end(&v)
}

// tree receives a tree.
func tree(ctx context.Context, h *helper) (entries []TreeEntry, err error) {
	var m treeMessage
	err = h.receive(ctx, msgTree, func(data []byte) error { return payload.Native{}.Unmarshal(data, &m) })
	if err == nil && (m.Entries < 0 || m.Entries > maxEntries) {
		err = fmt.Errorf("a tree of %d entries: %w", m.Entries, ibuf.ErrInvalid)
	}
	for err == nil && len(entries) < int(m.Entries) {
		err = h.receive(ctx, msgTreeEntries, func(data []byte) error {
			entries, err = decodeEntries(entries, data)
			return err
		})
	}
	if err == nil && len(entries) > int(m.Entries) {
		err = fmt.Errorf("%d entries of a tree of %d: %w", len(entries), m.Entries, ibuf.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// decodeEntries appends the entries in the payload of msgTreeEntries: at least
// one, since nothing else bounds the number of messages.
func decodeEntries(entries []TreeEntry, data []byte) ([]TreeEntry, error) {
	var m treeEntriesMessage
	v := ibuf.NewView(data)
	if err := payload.GetStruct(&v, &m); err != nil {
		return nil, err
	}
	v = ibuf.NewView(m.Rest)
	for n := m.Entries; n > 0 || v.Len() == len(m.Rest); n-- {
		var e treeEntry
		if err := payload.GetStruct(&v, &e); err != nil {
			return nil, err
		}
		id, err := e.ID.id()
		if err != nil {
			return nil, err
		}
		name, err := take(&v, e.NameLen)
		if err != nil {
			return nil, err
		}
		entries = append(entries, TreeEntry{name, e.Mode, id})
	}
	return entries, end(&v)
}

// tag receives a tag.
func tag(ctx context.Context, h *helper) (t Tag, err error) {
	var text uint64
	err = h.receive(ctx, msgTag, func(data []byte) error {
		t, text, err = decodeTag(data)
		return err
	})
	if err != nil {
		return Tag{}, err
	}
	t.Headers, t.Message, err = h.text(ctx, msgTagText, text)
	return t, err
}

var objectTypes = []string{1: "commit", 2: "tree", 3: "blob", 4: "tag"}

// decodeTag decodes the payload of msgTag. text is the size of the message that
// follows.
func decodeTag(data []byte) (t Tag, text uint64, err error) {
	var m tagMessage
	v := ibuf.NewView(data)
	if err := payload.GetStruct(&v, &m); err != nil {
		return t, 0, err
	}
	if m.Type < 1 || int(m.Type) >= len(objectTypes) {
		return t, 0, fmt.Errorf("a tag of an object of type %d: %w", m.Type, ibuf.ErrInvalid)
	}
	t.Type = objectTypes[m.Type]
	v = ibuf.NewView(m.Rest)
	if t.Object, err = m.ID.id(); err != nil {
		return t, 0, err
	}
	if t.Name, err = take(&v, m.NameLen); err != nil {
		return t, 0, err
	}
	if t.Tagger, err = person(&v, m.TaggerLen, m.TaggerTime, m.TaggerZone); err != nil {
		return t, 0, err
	}
	return t, m.TextLen, end(&v)
}

// text receives n bytes in as many messages as it takes: headers, an empty line,
// and the message of a commit or tag.
func (h *helper) text(ctx context.Context, typ uint32, n uint64) (headers, message string, err error) {
	if n > maxText {
		return "", "", fmt.Errorf("a text of %d bytes: %w", n, ibuf.ErrInvalid)
	}
	var b strings.Builder
	for uint64(b.Len()) < n {
		if err := h.receive(ctx, typ, func(data []byte) error {
			if len(data) == 0 || uint64(b.Len()+len(data)) > n {
				return fmt.Errorf("%d bytes of a text of %d, at %d: %w", len(data), n, b.Len(), ibuf.ErrInvalid)
			}
			b.Write(data)
			return nil
		}); err != nil {
			return "", "", err
		}
	}
	headers, message, _ = strings.Cut("\n"+b.String(), "\n\n") // the empty line may come first
	return strings.TrimPrefix(headers, "\n"), message, nil
}

// take takes a string of n bytes, which nobody has checked.
func take(v *ibuf.View, n uint64) (string, error) {
	if n > uint64(v.Len()) {
		return "", fmt.Errorf("a string of %d bytes where there are %d: %w", n, v.Len(), ibuf.ErrShort)
	}
	s, err := v.GetView(int(n)) // GetString's would end at a NUL
	return string(s.Bytes()), err
}

func person(v *ibuf.View, n uint64, sec, zone int64) (p Person, err error) {
	const day = 24 * 60 * 60
	if zone < -day || zone > day {
		return p, fmt.Errorf("a time zone %d s from UTC: %w", zone, ibuf.ErrInvalid)
	}
	p.Name, err = take(v, n)
	p.Time = time.Unix(sec, 0).In(time.FixedZone("", int(zone)))
	return p, err
}

// end checks that nothing is left.
func end(v *ibuf.View) error {
	if v.Len() != 0 {
		return fmt.Errorf("%d bytes too many: %w", v.Len(), ibuf.ErrInvalid)
	}
	return nil
}
