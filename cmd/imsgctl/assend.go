package main

import (
	"cmp"
	"encoding/hex"
	"strconv"
	"strings"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

// maxHex is the most that one argument of a program can have on Linux.
const maxHex = 1<<16 - 8

// appendSend appends the command line that sends r again. What a command line
// cannot say is in a comment behind it.
func appendSend(b []byte, r *capture.Record, p *profile.Profile) []byte {
	note := ""
	b = append(b, "imsgctl send "...)
	if p != nil {
		b = append(append(append(b, "--profile "...), shellWord(cmp.Or(p.File, p.Name))...), ' ')
	}
	if r.Header.ID != 0 {
		b = append(appendUint(append(b, "--id "...), uint64(r.Header.ID)), ' ')
	}
	b = append(strconv.AppendInt(append(b, "--pid "...), int64(r.Header.PID), 10), ' ')
	if r.Dialect == capture.Legacy {
		b = append(b, "--dialect legacy "...)
	}
	for _, f := range r.Files {
		if strings.HasPrefix(f.Path, "/") && !f.Lost {
			b = append(append(append(b, "--file "...), shellWord(f.Path)...), ' ')
			if f.Flags != "" && !strings.HasPrefix(f.Flags, "rdonly") {
				b = append(b, "--rw "...)
			}
		} else {
			note = "; its file has no path: " + escape(f.Kind+" "+f.Path)
		}
	}
	if r.Name == "" {
		b, note = append(b, "ADDRESS "...), note+"; its socket has no path"
	} else {
		b = append(append(b, shellWord(r.Name)...), ' ')
	}
	b = append(b, p.TypeText(r.Header.Type)...)
	if len(r.Payload) > 0 {
		b = append(b, " hex:"...)
		b = hex.AppendEncode(b, r.Payload)
	}
	if r.Cut() > 0 {
		note += "; " + count(r.Cut(), "byte") + " of the payload were not captured"
	}
	if len(r.Payload) > maxHex {
		note += "; it is long for a command line: put the bytes into a file, and @FILE here"
	}
	if r.Order != nil && orderName(r.Order) != orderName(nil) {
		note += "; it was of another byte order"
	}
	if note != "" {
		b = append(append(b, "  # "...), note[2:]...)
	}
	return append(b, '\n')
}

// shellWord quotes s for sh, if it needs that.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r))
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 && s[0] != '-' {
		return s
	}
	if q := strconv.QuoteToASCII(s); q != `"`+s+`"` {
		return "$" + "'" + strings.ReplaceAll(q[1:len(q)-1], "'", `\'`) + "'" // of bash, zsh, ksh and POSIX 2024
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
