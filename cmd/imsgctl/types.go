package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/profile"
)

func newTypesCommand(a *app) *cobra.Command {
	var from, enum, name string
	var maps []string
	c := &cobra.Command{
		Use:   "types [profile]",
		Short: "List profiles, what one knows, or make one from an object file",
		Long: `Types lists the profiles: what programs' types of messages are called, and what
is in their payloads. With the name of one, or a file, it prints that profile,
in the form that a file for --profile has:

  program NAME [EXECUTABLE...]        whose messages these are
  socket PART...                      parts of the paths of its sockets
  dialect legacy                      unless it speaks the current one
  type NUMBER NAME [STRUCT[|STRUCT]]  of the structs, the first that fits counts
  enum NAME {                         then lines NAME = NUMBER, and }
  struct NAME [packed] [size N] {     then lines of fields, and }

A field is "[net] TYPE NAME[N] [@OFFSET] [if FIELD == N|N]" with a C type, bytes
for hex, or string for a text that ends with its NUL; "net" is network byte
order, NAME[] goes on to the end of the payload, and _N is not shown.

With --from, types writes such a file from what cc -g wrote into an object file:
the types of messages from an enum, and the structs that --map names. For a
header alone: cc -g -fno-eliminate-unused-debug-types -x c -c -o x.o x.h`,
		Example: `  imsgctl types
  imsgctl types tmux
  imsgctl types --from bgpd.o --enum imsg_type --map CTL_SHOW_RIB=ctl_show_rib > bgpd.imsg
  imsgctl decode -v --profile ./bgpd.imsg session.pcapng`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case from != "" && len(args) > 0:
				return usagef("--from and a profile: one of the two")
			case from != "":
				return typesFrom(a.stdout, from, enum, name, maps)
			case enum != "" || name != "" || len(maps) > 0:
				return usagef("--enum, --name and --map belong to --from")
			case len(args) == 0:
				return listProfiles(a.stdout)
			}
			p, err := profile.Load(args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, p.Text())
			return err
		},
		ValidArgsFunction: cobra.FixedCompletions(profile.Names(), cobra.ShellCompDirectiveDefault),
	}
	c.Flags().StringVar(&from, "from", "", "make a profile from the object file or program `FILE`")
	c.Flags().StringVar(&enum, "enum", "", "its enum `NAME`, or one with that member, has the types of messages")
	c.Flags().StringArrayVar(&maps, "map", nil, "the payload of a type of message: `TYPE=STRUCT`, or TYPE=STRUCT|STRUCT; again for each")
	c.Flags().StringVar(&name, "name", "", "`NAME` of the program; that of the file")
	return c
}

func listProfiles(w io.Writer) error {
	for _, name := range profile.Names() {
		p, err := profile.Load(name)
		if err == nil {
			_, err = fmt.Fprintf(w, "%-8s %s\n", name, count(len(p.TypeNames()), "type"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func typesFrom(w io.Writer, from, enum, name string, maps []string) error {
	payloads := make(map[string][]string)
	for _, m := range maps {
		typ, structs, ok := strings.Cut(m, "=")
		if !ok {
			return usagef("--map %q: TYPE=STRUCT is wanted", m)
		}
		payloads[typ] = append(payloads[typ], strings.Split(structs, "|")...)
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(from), filepath.Ext(from))
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := profile.FromObject(f, name, enum, payloads)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	_, err = fmt.Fprintf(w, "# from %s\n%s", escape(filepath.Base(from)), p.Text())
	return err
}
