package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
)

func newDecodeCommand(a *app) *cobra.Command {
	var in inputFlags
	var out outputFlags
	var lua bool
	c := &cobra.Command{
		Use:   "decode [file]",
		Short: "Show the messages in a capture, a hexdump, or what strace printed",
		Long: `Decode shows the messages in a file, or in standard input:

  pcapng   what -w of the other commands recorded
  strace   what strace printed, of any version; cut with -s 32 or in pieces, too.
           Best is
             strace -f -ttt -yy -xx -s 70000 -o FILE COMMAND
  hex      plain hex, xxd, hexdump -C, od -tx1, or copied from Wireshark: the
           bytes of one direction of a channel
  raw      the bytes themselves

Which of them it is, the first bytes tell. Of hex and raw bytes decode guesses
the dialect and the byte order, and says what it has found: "either" if nothing
tells the dialects apart. If a message's end is followed by something that is no
header, decode stops and says where; a capture that was cut is shown up to
there.`,
		Example: `  imsgctl decode session.pcapng
  imsgctl decode -f 'type == CTL_SHOW_RIB and size > 100' --json session.pcapng
  strace -f -ttt -yy -xx -s 70000 -o t.txt bgpd -d; imsgctl decode t.txt
  xxd payload.bin | imsgctl decode -v
  imsgctl decode --lua > imsg.lua; tshark -X lua_script:imsg.lua -r session.pcapng`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if lua {
				if len(args) > 0 || c.Flags().NFlag() > 1 {
					return usagef("--lua prints the dissector, and takes no file and no other flag")
				}
				_, err := io.WriteString(a.stdout, capture.Lua)
				return err
			}
			i, err := in.open(c.Context(), a, cmp.Or(append(args, "")...))
			if err != nil {
				return err
			}
			defer i.Close()
			o, err := out.open(c.Context(), a)
			if err != nil {
				return err
			}
			err = i.each(c.Context(), o.Write, func() { o.Flush() })
			o.summary = a.errTTY || c.Context().Err() != nil
			if cerr := o.Close(); err == nil {
				err = cerr
			}
			if l := i.layout(); l != "" && (o.seen > 0) {
				a.complain(a.running, fmt.Errorf("%s, %s", i.format, l))
			}
			return err
		},
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	in.add(c)
	out.add(c.Flags())
	c.Flags().BoolVar(&lua, "lua", false, "print the Wireshark dissector for recordings, and do nothing else")
	return c
}
