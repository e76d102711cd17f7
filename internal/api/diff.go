package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// diff writes what is different between two sets of listings, as diff -u does
// without the lines that are the same, and reports whether anything is.
func diff(out io.Writer, aName string, a map[string][]string, bName string, b map[string][]string) (different bool) {
	names := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		lines := changes(a[name], b[name])
		if len(lines) == 0 {
			continue
		}
		different = true
		fmt.Fprintf(out, "--- %s/%s\n+++ %s/%s\n", aName, name, bName, name)
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
	}
	return different
}

// changes merges two sorted lists. A list out of order, which somebody has
// edited, is different too, in lines that only seem to be gone and new.
func changes(a, b []string) (lines []string) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			lines = append(lines, "-"+a[0])
			a = a[1:]
		case len(a) == 0 || b[0] < a[0]:
			lines = append(lines, "+"+b[0])
			b = b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return lines
}
