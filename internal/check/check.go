// Package check compares what a test got with what it wants, and runs tests in
// processes of their own. It imports none of ours, so that tests inside of
// packages that testutil needs can use it, too.
package check

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

// Must ends the test if err is not nil. It costs a benchmark nothing otherwise:
// Helper takes longer than a message.
func Must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// NoError fails the test if err is not nil.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// Is fails the test unless err is want, or nil if want is.
func Is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// EOF fails the test unless r is at its end.
func EOF(t testing.TB, what string, r io.Reader) {
	t.Helper()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%s: %d bytes, %v; want the end", what, n, err)
	}
}

// Equal fails the test unless got prints as want does, whatever their types are,
// or is want itself if it is an error.
func Equal(t testing.TB, what string, got, want any) {
	t.Helper()
	err, isError := got.(error)
	if isError && err != want || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}
