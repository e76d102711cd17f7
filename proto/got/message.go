package got

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/payload"
)

// Types of messages that are the same in all versions.
const (
	msgError         = 0
	msgStop          = 1
	msgCommitRequest = 4
	msgCommit        = 5
	msgCommitText    = 6
	msgTreeRequest   = 7
	msgTree          = 8
	msgTreeEntries   = 9
	msgBlobRequest   = 10
	msgBlobOutFile   = 11
	msgBlob          = 12
	msgTagRequest    = 13
	msgTag           = 14
	msgTagText       = 15
)

// Types of messages about a configuration: they follow one that depends on the
// version.
const (
	configParse  = 0
	configFormat = 1
	configName   = 3
	configEmail  = 4
	configInt    = 6
	configString = 7
)

// configBases are the types of configParse, the newest first: that of 0.126, and
// that of 0.111.
var configBases = []uint32{52, 51}

var typeNames = map[uint32]string{
	msgError: "ERROR", msgStop: "STOP", 2: "OBJECT_REQUEST", 3: "OBJECT", msgCommitRequest: "COMMIT_REQUEST", msgCommit: "COMMIT",
	msgCommitText: "COMMIT_LOGMSG", msgTreeRequest: "TREE_REQUEST", msgTree: "TREE", msgTreeEntries: "TREE_ENTRIES",
	msgBlobRequest: "BLOB_REQUEST", msgBlobOutFile: "BLOB_OUTFD", msgBlob: "BLOB", msgTagRequest: "TAG_REQUEST", msgTag: "TAG",
	msgTagText: "TAG_TAGMSG",

	52 + configParse: "GITCONFIG_PARSE_REQUEST", 52 + configFormat: "GITCONFIG_REPOSITORY_FORMAT_VERSION_REQUEST",
	52 + configName: "GITCONFIG_AUTHOR_NAME_REQUEST", 52 + configEmail: "GITCONFIG_AUTHOR_EMAIL_REQUEST",
	52 + configInt: "GITCONFIG_INT_VAL", 52 + configString: "GITCONFIG_STR_VAL",
}

// TypeName returns the name of a message's type in got 0.126, for example "BLOB",
// or "" if the type is unknown to this package.
func TypeName(typ uint32) string { return typeNames[typ] }

// PayloadType returns the struct type, for package payload, of a payload of size
// bytes, or nil if it has none.
func PayloadType(typ uint32, size int) reflect.Type {
	switch {
	case typ == msgError && size == 8:
		return reflect.TypeFor[errorMessage]()
	case size == 36 && (typ == msgCommitRequest || typ == msgTreeRequest || typ == msgBlobRequest || typ == msgTagRequest):
		return reflect.TypeFor[objectID]()
	case typ == msgCommit && size >= 96:
		return reflect.TypeFor[commitMessage]()
	case typ == msgTree && size == 4:
		return reflect.TypeFor[treeMessage]()
	case typ == msgTreeEntries && size >= 8:
		return reflect.TypeFor[treeEntriesMessage]()
	case typ == msgBlob && size >= 16:
		return reflect.TypeFor[blobMessage]()
	case typ == msgTag && size >= 80:
		return reflect.TypeFor[tagMessage]()
	}
	return nil
}

// errorMessage is the payload of msgError.
type errorMessage struct {
	_     struct{} `c:"packed"`
	Code  int32
	Errno int32
}

// objectID is the payload of requests.
type objectID struct {
	_    struct{} `c:"packed"`
	Hash [32]byte // SHA-1 has 20
	Algo int32    // 0: SHA-1
}

// id returns the name of an object that has a SHA-1.
func (o *objectID) id() (ID, error) {
	if o.Algo != 0 {
		return ID{}, fmt.Errorf("an object ID of kind %d: %w", o.Algo, ibuf.ErrInvalid)
	}
	return ID(o.Hash[:20]), nil
}

// commitMessage is the payload of msgCommit. In Rest are the author's name and the
// committer's, and the IDs of the parents.
type commitMessage struct {
	_             struct{} `c:"packed"`
	Tree          objectID
	AuthorLen     uint64 `c:"long"`
	AuthorTime    int64
	AuthorZone    int64  // seconds east of UTC
	CommitterLen  uint64 `c:"long"`
	CommitterTime int64
	CommitterZone int64
	TextLen       uint64 `c:"long"`
	Parents       uint32
	Rest          []byte `c:"tail"`
}

// treeMessage is the payload of msgTree.
type treeMessage struct{ Entries int32 }

// treeEntriesMessage is the payload of msgTreeEntries. In Rest are treeEntry
// structs, each with its name.
type treeEntriesMessage struct {
	Entries uint64 `c:"long"`
	Rest    []byte `c:"tail"`
}

type treeEntry struct {
	_       struct{} `c:"packed"`
	ID      objectID
	Mode    uint32
	NameLen uint64 `c:"long"`
}

// tagMessage is the payload of msgTag. In Rest are the tag's name and the tagger's.
type tagMessage struct {
	_          struct{} `c:"packed"`
	ID         objectID
	Type       int32
	NameLen    uint64 `c:"long"`
	TaggerLen  uint64 `c:"long"`
	TaggerTime int64
	TaggerZone int64
	TextLen    uint64 `c:"long"`
	Rest       []byte `c:"tail"`
}

// blobMessage is the payload of msgBlob.
type blobMessage struct {
	_      struct{} `c:"packed"`
	Size   uint64
	Header uint64
	Data   []byte `c:"tail"`
}

// An ID is the name of an object: its SHA-1.
type ID [20]byte

// ParseID parses 40 hexadecimal digits.
func ParseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("got: %q is no object ID", s)
	}
	return ID(b), nil
}

// String returns the 40 digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A HelperError is what a helper found wrong. It has ended.
type HelperError struct {
	Helper string // "got-read-blob"
	Code   int32  // as in got_error.h
	Errno  int32  // 0 if no system call has failed
}

var codes = map[int32]string{35: "bad message length", 38: "no file came with the message", 39: "unexpected message"}

// Error returns for example "got-read-blob: unexpected message (error 39)".
func (e *HelperError) Error() string {
	text := fmt.Sprintf("error %d", e.Code)
	if s := codes[e.Code]; s != "" {
		text = fmt.Sprintf("%s (error %d)", s, e.Code)
	}
	if e.Errno != 0 {
		text += fmt.Sprintf(", errno %d", e.Errno)
	}
	return e.Helper + ": " + text
}

// expect receives a message, which must be of one type. Its payload is handed to
// take, which keeps nothing of it.
func (h *helper) expect(m imsg.Message, typ uint32, take func(data []byte) error) error {
	if m.Type() == msgError {
		var e errorMessage
		if err := payload.GetStruct(m, &e); err != nil || m.Len() != 0 {
			return errors.Join(fmt.Errorf("%s: an error that cannot be read", h.name), err)
		}
		return &HelperError{h.name, e.Code, e.Errno}
	}
	if m.Type() != typ {
		return fmt.Errorf("%s: answer %d of %d bytes, want %d", h.name, m.Type(), m.Len(), typ)
	}
	return take(m.Bytes())
}

// blob checks what a helper says about a blob.
func blob(data []byte) (b Blob, err error) {
	var m blobMessage
	if err := (payload.Native{}).Unmarshal(data, &m); err != nil {
		return b, err
	}
	switch {
	case m.Size > 1<<62 || m.Header > m.Size:
		return b, fmt.Errorf("a blob of %d bytes with a header of %d: %w", m.Size, m.Header, ibuf.ErrInvalid)
	case m.Size <= maxInline && m.Size != uint64(len(m.Data)):
		return b, fmt.Errorf("a blob of %d bytes in a message with %d: %w", m.Size, len(m.Data), ibuf.ErrInvalid)
	case m.Size > maxInline && len(m.Data) != 0:
		return b, fmt.Errorf("a blob of %d bytes, and %d in the message: %w", m.Size, len(m.Data), ibuf.ErrInvalid)
	}
	b = Blob{Size: int64(m.Size), Header: int64(m.Header)}
	if m.Size <= maxInline {
		b.Data = m.Data
	}
	return b, nil
}

// maxInline is the size up to which a blob is in the message itself.
const maxInline = imsg.DefaultMaxSize - imsg.HeaderSize - 16
