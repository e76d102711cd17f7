package control

import (
	"math"
	"strings"
	"time"
	"unicode"
)

// Seconds returns a duration of n seconds; one that is too long for a Duration
// becomes the longest there is.
func Seconds(n int64) time.Duration {
	const limit = math.MaxInt64 / int64(time.Second)
	switch {
	case n > limit:
		return math.MaxInt64
	case n < -limit:
		return math.MinInt64
	}
	return time.Duration(n) * time.Second
}

// Milliseconds is Seconds for a C double in milliseconds. What is no number
// becomes 0.
func Milliseconds(f float64) time.Duration {
	switch ns := f * float64(time.Millisecond); {
	case ns != ns:
		return 0
	case ns >= math.MaxInt64:
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	default:
		return time.Duration(math.Round(ns))
	}
}

// Printable returns s without what could upset a terminal: a daemon's strings
// come from its configuration and from its peers.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
