package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"example.org/imsg/internal/capture"
)

// payload puts the arguments together.
func (s *sender) payload(typ uint32, args []string) (p []byte, err error) {
	fields := make(map[string]any)
	for _, arg := range args {
		var part []byte
		kind, rest, _ := strings.Cut(arg, ":")
		name, value, isField := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(arg, "{"):
			d := json.NewDecoder(strings.NewReader(arg))
			d.UseNumber()
			if err = d.Decode(&fields); err == nil && d.More() {
				err = errors.New("more than one JSON object")
			}
		case arg == "@-":
			part, err = io.ReadAll(io.LimitReader(s.a.stdin, capture.MaxPayload+1))
		case strings.HasPrefix(arg, "@"):
			part, err = readFile(arg[1:])
		case kind == "hex":
			part, err = hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		case kind == "text":
			part = []byte(rest)
		case isField && name != "":
			err = setField(fields, name, value)
		default:
			err = errors.New("hex:, text:, @FILE, name=value or JSON is wanted")
		}
		if err != nil {
			return nil, usagef("payload %s: %w", quote(arg), err)
		}
		p = append(p, part...)
	}
	if len(p) > capture.MaxPayload {
		return nil, usagef("a payload has at most %d bytes", capture.MaxPayload)
	}
	if len(fields) == 0 {
		return p, nil
	}
	if len(p) > 0 {
		return nil, usagef("fields, or bytes: not both")
	}
	if p, err = s.profile.Encode(typ, fields); err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, capture.MaxPayload+1))
}

// setField sets a.b=value.
func setField(fields map[string]any, path, value string) error {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		fields[name] = value
		return nil
	}
	in, ok := fields[name].(map[string]any)
	if !ok {
		if fields[name] != nil {
			return fmt.Errorf("%s is a value already", name)
		}
		in = make(map[string]any)
		fields[name] = in
	}
	return setField(in, rest, value)
}
