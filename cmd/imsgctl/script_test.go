package main

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs are what scripts can run.
var programs = map[string]func(){"imsgctl": main, "echod": echod, "ask": ask, "kid": kid, "parent": parent}

// TestScript runs testdata/script/*.txt. A script has the command as imsgctl,
// "exits N COMMAND..." for one that must exit with status N, and "serve PATH" for a
// server; the conditions trace and move say that programs can be traced, and that
// the place of a socket can be taken.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"placed": placed,
			"serve":  serve,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "trace":
				return canTrace() == nil, nil
			case "move":
				return canMove(), nil
			}
			return false, errors.New("no such condition")
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got, exit := 0, new(*exec.ExitError)
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, exit) {
		got = (*exit).ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
