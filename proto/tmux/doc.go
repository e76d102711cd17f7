// Package tmux talks to a tmux server over its own socket, without the tmux
// program: one command or many in one message, files to and from buffers, and
// control clients. It speaks both dialects of imsg, so that it does not matter
// which version the server is.
//
//	c, err := tmux.Dial(ctx, tmux.DefaultSocket(), nil)
//	...
//	r, err := c.Run(ctx, "list-sessions", "-F", "#{session_name}")
//	...
//	fmt.Printf("%s", r.Stdout)
//
// # Which call
//
// Run and Exec connect for each command, as tmux does, but start no process.
// RunList sends many commands in one message: this is the cheapest way, and no
// client is attached for it. A Control is attached to a session, runs commands
// at about the price of a list, and is told what happens. Paste types a text
// into a pane and makes sure that it is submitted.
//
// # Safety
//
// tmux before 3.7 ends, with all its sessions, if a control client goes away in
// the middle of its introduction. This package sends it such that no cancel and
// no kill can cut it there. A control client gets pipes, never this process's
// own files, and they are always read: a program that does not take its events
// loses them (Lost), but stops neither the server nor a pane. (A process that is
// stopped as a whole can hold up the panes of tmux 3.3a, but not the server.)
//
// The server is trusted no further than needed. It can open files only through
// Config.OpenFile; the messages that make tmux's own client start a program are
// ignored; what it prints is limited where it is collected.
//
// # Ownership
//
// Readers, writers and files of a Command stay the caller's, and are not used
// any more when Exec has returned, but for a Read that waits. Results and
// events are copies. A Control must be closed.
//
// # Limits
//
// The arguments of a command have at most 16364 bytes, counting a NUL for each;
// longer text goes through LoadBuffer or Paste. What is collected is limited by
// Config.MaxOutput (64 MiB), events that wait by 8 MiB, commands of a Control
// that wait for their replies by 4096, and the files that a command has open by 64.
//
// # Errors
//
// An *Error is a conversation that failed: it names the socket, the server's
// version and, where one is known, a cure. A *CommandError is what tmux itself
// says about a command. Calls wait as long as their context lets them.
//
// # Concurrency
//
// A Client and a Control may be used by many goroutines at a time.
package tmux
