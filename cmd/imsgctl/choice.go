package main

import (
	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

// choiceFlags are the flags of commands that make something else of messages
// than lines.
type choiceFlags struct{ filter, profile string }

func (f *choiceFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.filter, "filter", "f", "", "only messages for which `EXPR` is true (help filter)")
	c.Flags().StringVar(&f.profile, "profile", "auto", "names of `NAME`: auto, none, a program, or a file (help types)")
}

// A choice tells which messages count, and their profiles.
type choice struct {
	keep     *filter // nil: all
	profiles *profile.Chooser
}

func (f *choiceFlags) open() (*choice, error) {
	c := new(choice)
	var err error
	if c.profiles, err = profile.Choose(f.profile); err != nil {
		return nil, usageError{err}
	}
	if f.filter != "" {
		if c.keep, err = parseFilter(f.filter, c.profiles); err != nil {
			return nil, usageError{err}
		}
	}
	return c, nil
}

// of returns the profile for r, and whether r counts.
func (c *choice) of(r *capture.Record) (*profile.Profile, bool) {
	p := c.profiles.Of(r)
	return p, c.keep == nil || c.keep.match(r, p)
}
