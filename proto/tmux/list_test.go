package tmux

import (
	"fmt"
	"strings"
	"testing"
)

// Every list becomes messages that a server can take, and nothing of it is lost.
func TestPack(t *testing.T) {
	var commands [][]string
	for i := range 3000 {
		args := []string{"send-keys", "-t", fmt.Sprint("%", i), strings.Repeat("k", i%500)}
		for range i % 50 {
			args = append(args, ";", `\`, "")
		}
		commands = append(commands, args)
	}
	c := &Client{}
	got := 0
	for got < len(commands) {
		args, n, err := c.pack(commands[got:], "token")
		if err != nil || n < 1 {
			t.Fatalf("%d commands, %v", n, err)
		}
		if len(args) > maxArgs {
			t.Fatalf("%d arguments", len(args))
		}
		if _, err := newCommand(args); err != nil {
			t.Fatal(err)
		}
		parsed := parseArguments(args)
		if len(parsed) != 2*n {
			t.Fatalf("%d commands of %d", len(parsed), 2*n)
		}
		for i := range n {
			want := commands[got+i]
			if fmt.Sprintf("%q", parsed[2*i]) != fmt.Sprintf("%q", want) || parsed[2*i+1][2] != "token" {
				t.Fatalf("%q, want %q", parsed[2*i:2*i+2], want)
			}
		}
		got += n
	}
	if _, _, err := c.pack([][]string{nil}, "token"); err == nil {
		t.Error("no command")
	}
}

// parseArguments does what tmux does with arguments: cmd_parse_from_arguments.
func parseArguments(args []string) (commands [][]string) {
	var command []string
	for _, arg := range args {
		end := false
		if s, ok := strings.CutSuffix(arg, ";"); ok {
			if t, ok := strings.CutSuffix(s, `\`); ok {
				arg = t + ";"
			} else {
				arg, end = s, true
			}
		}
		if !end || arg != "" {
			command = append(command, arg)
		}
		if end && len(command) > 0 {
			commands, command = append(commands, command), nil
		}
	}
	if len(command) > 0 {
		commands = append(commands, command)
	}
	return commands
}

func TestSplitOutput(t *testing.T) {
	commands := [][]string{{"a"}, {"b"}, {"c"}}
	c := &Client{version: "3.8"}
	for _, tt := range []struct {
		stdout, stderr string
		status         int
		want           string
	}{
		{"1\nT\n2T\nT\n", "", 0, "0 1\n 0 2 0 "},
		{"1\nT\n2\n", "no b\n", 1, "0 1\n 1 2\n -1 "},
		{"", "unknown command\n", 1, "1  -1  -1 "},
		{"", "", 0, "1  -1  -1 "}, // a server that says nothing has done nothing
		{"T\nT\nT\n", "odd\n", 1, "0  0  1 "},
	} {
		var got []string
		results, _ := c.split(commands, "T", []byte(tt.stdout), []byte(tt.stderr), tt.status)
		for _, r := range results {
			got = append(got, fmt.Sprintf("%d %s", r.Status, r.Stdout))
			if (r.Err() == nil) != (r.Status == 0) {
				t.Errorf("%+v: %v", r, r.Err())
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q: %q, want %q", tt.stdout, s, tt.want)
		}
	}
}
