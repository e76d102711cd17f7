package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A doctorCommand is a command line of doctor.
type doctorCommand struct {
	a         *app
	json, fix bool
	timeout   time.Duration
}

func newDoctorCommand(a *app) *cobra.Command {
	d := &doctorCommand{a: a}
	c := &cobra.Command{
		Use:   "doctor ADDRESS",
		Short: "Tell what is wrong with a socket, and what to do",
		Long: `Doctor connects to the socket at ADDRESS, a path or an abstract name with @ in
front, and tells who listens there, what dialect is spoken, who may connect, and
whether "imsgctl trace" can be used. It sends nothing, except that it asks a tmux
server for its version, as tmux itself does.

The exit status is 1 if there is a warning.

If "imsgctl proxy --move" was killed and has left the daemon's socket at another
name, --fix puts it back. Without --fix doctor asks, on a terminal.`,
		Example: `  imsgctl doctor /tmp/tmux-1000/default
  imsgctl doctor --json /run/bgpd.sock.0
  imsgctl doctor --fix /run/bgpd.sock.0`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("the address of one socket is needed")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return d.run(c.Context(), args[0]) },
	}
	c.Flags().BoolVar(&d.json, "json", false, "one JSON object")
	c.Flags().BoolVar(&d.fix, "fix", false, "put back what a killed proxy has left")
	c.Flags().DurationVar(&d.timeout, "timeout", 5*time.Second, "how long to wait for the daemon")
	return c
}

// A diagnosis is what is known of a socket.
type diagnosis struct {
	Address  string     `json:"address"`
	Path     string     `json:"path,omitempty"` // without symbolic links
	Mode     string     `json:"mode,omitempty"`
	Owner    string     `json:"owner,omitempty"`
	Group    string     `json:"group,omitempty"`
	Folders  []folder   `json:"folders,omitempty"`
	Listener *process   `json:"listener,omitempty"`
	Holders  []process  `json:"holders,omitempty"` // all that have the listening socket open
	Program  string     `json:"program,omitempty"` // with its version, if that is known
	Dialect  string     `json:"dialect"`
	Reason   string     `json:"dialect_reason"`
	MaxSize  int        `json:"max_size,omitempty"` // with header
	Trace    string     `json:"trace,omitempty"`
	Findings []*finding `json:"findings"`

	uid, gid uint32 // of the socket's owner
	perm     uint32
	moved    bool // a killed proxy has left the socket at another name
}

type folder struct {
	Path  string `json:"path"`
	Mode  string `json:"mode"`
	Owner string `json:"owner"`
	Group string `json:"group"`

	perm uint32
	uid  uint32
}

// A process is one at the other end.
type process struct {
	PID      int    `json:"pid"`
	User     string `json:"user,omitempty"`
	Group    string `json:"group,omitempty"`
	Exe      string `json:"exe,omitempty"`
	Name     string `json:"name"`
	State    string `json:"state,omitempty"` // "stopped" and the like
	Replaced bool   `json:"replaced,omitempty"`

	uid uint32
}

// A finding is something that a user should know.
type finding struct {
	Warning bool   `json:"warning"` // or else it is a note
	Topic   string `json:"topic"`
	Text    string `json:"text"`
	Cure    string `json:"cure,omitempty"`
}

func (d *diagnosis) warn(topic, cure, format string, args ...any) {
	d.Findings = append(d.Findings, &finding{true, topic, fmt.Sprintf(format, args...), cure})
}

func (d *diagnosis) note(topic, cure, format string, args ...any) {
	d.Findings = append(d.Findings, &finding{false, topic, fmt.Sprintf(format, args...), cure})
}

// errWarned is the exit status after warnings, which were shown.
type warningsError int

func (n warningsError) Error() string { return count(int(n), "warning") }

func (c *doctorCommand) run(ctx context.Context, address string) error {
	if c.timeout <= 0 {
		return usagef("--timeout %v: more than 0", c.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	d := &diagnosis{Address: address, Findings: []*finding{}}
	if !isAbstract(address) {
		if err := c.leftover(d); err != nil {
			return err
		}
		d.look()
	}
	d.connect(ctx)
	warnings := 0
	for _, f := range d.Findings {
		if f.Warning {
			warnings++
		}
	}
	if err := c.show(d); err != nil {
		return err
	}
	if warnings > 0 {
		return warningsError(warnings)
	}
	return nil
}

func (c *doctorCommand) show(d *diagnosis) error {
	if c.json {
		text, err := json.MarshalIndent(d, "", "  ")
		if err == nil {
			_, err = c.a.stdout.Write(append(text, '\n'))
		}
		return err
	}
	var b strings.Builder
	d.write(&b)
	_, err := io.WriteString(c.a.stdout, b.String())
	return err
}

// write writes the diagnosis for people.
func (d *diagnosis) write(b *strings.Builder) {
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "  %-10s%s\n", what, escape(text))
		}
	}
	fmt.Fprintln(b, escape(d.Address))
	if d.Path != d.Address {
		line("path", d.Path)
	}
	if d.Mode != "" {
		line("socket", fmt.Sprintf("mode %s, %s:%s", d.Mode, d.Owner, d.Group))
	}
	if p := d.Listener; p != nil {
		line("daemon", p.String())
	}
	for _, p := range d.Holders {
		if d.Listener == nil || p.PID != d.Listener.PID {
			line("open in", p.String())
		}
	}
	line("version", d.Program)
	line("dialect", strings.TrimSpace(d.Dialect+"  "+d.Reason))
	if d.MaxSize > 0 {
		line("largest", fmt.Sprintf("%d bytes, with header", d.MaxSize))
	}
	for _, f := range d.Folders {
		line("folder", fmt.Sprintf("%s  mode %s, %s:%s", f.Path, f.Mode, f.Owner, f.Group))
	}
	line("trace", d.Trace)
	for _, f := range d.Findings {
		kind := "note"
		if f.Warning {
			kind = "warning"
		}
		fmt.Fprintf(b, "%s: %s\n", kind, escape(f.Text))
		if f.Cure != "" {
			fmt.Fprintf(b, "  %s\n", escape(f.Cure))
		}
	}
}

// String returns for example "tmux[12] /usr/bin/tmux, user root, stopped".
func (p *process) String() string {
	s := fmt.Sprintf("%s[%d]", p.Name, p.PID)
	if p.Exe != "" {
		s += " " + p.Exe
	}
	if p.User != "" {
		s += ", user " + p.User
	}
	if p.State != "" {
		s += ", " + p.State
	}
	return s
}

// ask asks a question on the terminal.
func (c *doctorCommand) ask(question string) bool {
	fmt.Fprintf(c.a.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(c.a.stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
