package tmux

import (
	"context"
	"fmt"
	"os"
	"strings"

	"example.org/imsg"
)

// An identity is what a client tells a server about itself, and its command.
type identity struct {
	dir     string
	env     []string
	in, out *os.File // of a control client; borrowed
	command []byte   // payload of the message
}

// newCommand encodes a command. The server would start a new session for one
// without arguments, and end for one without a NUL at its end.
func newCommand(args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("no command")
	}
	n := 0
	for _, arg := range args {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("argument %q contains a NUL", arg)
		}
		n += len(arg) + 1
	}
	if n > maxCommand {
		return nil, fmt.Errorf("%s: arguments of %d bytes, the limit is %d (long text goes through LoadBuffer)", args[0], n, maxCommand)
	}
	return encode(int32(len(args)), strings.Join(args, "\x00")), nil
}

// send sends everything, in an order that a cancel, a kill or a broken
// connection may cut at any point. tmux before 3.7 ends, with all its sessions,
// when a client goes away for which it has LONGFLAGS with the control flag, but
// not DONE. So these two are the first 40 bytes of a system call of their own:
// on a stream socket the kernel takes as few bytes from a writer whole or not
// at all. Files go first, since a message with a file starts a system call,
// too. Every server needs TTYNAME before DONE.
func (id *identity) send(ctx context.Context, conn *imsg.Conn) error {
	flags := uint64(flagUTF8)
	if id.in != nil {
		flags |= flagControl
		if err := conn.Send(ctx, header(msgIdentifyStdin), id.in); err != nil {
			return err
		}
		if err := conn.Send(ctx, header(msgIdentifyStdout), id.out); err != nil {
			return err
		}
	}
	queue := func(typ uint32, fields ...any) error { return conn.Compose(header(typ), nil, encode(fields...)) }
	if err := queue(msgIdentifyTerm, os.Getenv("TERM")); err != nil {
		return err
	}
	if err := queue(msgIdentifyTTYName, ""); err != nil {
		return err
	}
	if err := queue(msgIdentifyCwd, id.dir); err != nil {
		return err
	}
	if err := queue(msgIdentifyClientPID, int32(os.Getpid())); err != nil {
		return err
	}
	for _, s := range id.env {
		if len(s) >= maxPayload || strings.ContainsRune(s, 0) {
			continue // tmux leaves longer ones out, too
		}
		if err := queue(msgIdentifyEnviron, s); err != nil {
			return err
		}
	}
	if id.in != nil { // without the control flag nothing can go wrong: one system call for all
		if err := conn.Flush(ctx); err != nil {
			return err
		}
	}
	if err := queue(msgIdentifyLongFlags, flags); err != nil {
		return err
	}
	if err := queue(msgIdentifyDone); err != nil {
		return err
	}
	if err := queue(msgCommand, id.command); err != nil {
		return err
	}
	return conn.Flush(ctx)
}
