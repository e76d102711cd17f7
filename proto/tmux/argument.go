package tmux

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// literal writes arguments such that tmux does not take a ";" at the end of one
// for the end of the command.
func literal(args []string) []string {
	var out []string
	for i, arg := range args {
		if s, ok := strings.CutSuffix(arg, ";"); ok {
			if out == nil {
				out = append([]string(nil), args...)
			}
			out[i] = s + `\;`
		}
	}
	if out == nil {
		return args
	}
	return out
}

// newToken returns a word that no output can contain, since nobody knows it.
func newToken() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// appendQuoted appends an argument as a control client must write it: on one
// line, and with nothing in it that tmux expands.
func appendQuoted(p []byte, arg string) []byte {
	p = append(p, '"')
	for i := range len(arg) {
		switch c := arg[i]; {
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '$', c == '~':
			p = append(p, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			p = append(p, c)
		}
	}
	return append(p, '"')
}
