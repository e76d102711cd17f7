// Package privsep splits a daemon into processes with different rights: a
// parent that keeps the few things only root may do, and children that give up
// everything before they touch what others send them, and say so with proof.
//
//	        parent                      root; starts, supervises, answers
//	      /   |    \                    a few requests by policy
//	 fd 3/    |     \
//	worker  worker   logger             own user, chroot, sandbox
//	    \____/__________/               channels between them, made by the parent
//
// A daemon is declared as data and run by [Daemon.Main], which is the whole main
// function. Parent and children are the same program: the parent executes itself
// again for each process of each [Role].
//
//	var daemon = privsep.Daemon{
//		Name: "exampled", User: "_exampled", Chroot: privsep.EmptyDir,
//		Roles: []privsep.Role{{
//			Name: "worker", Run: work, Sandbox: sandbox.Policy{Promises: "stdio recvfd"},
//		}},
//		Parent: parent,
//	}
//
//	func main() { daemon.Main() }
//
//	func parent(ctx context.Context, p *privsep.Proc) error {
//		p.Handle("worker", peer.Rule{Type: reqOpen, Handle: open, Once: true})
//		return p.Serve(ctx) // any other request is the worker's end
//	}
//
// # Start
//
// The parent looks up users and directories, makes every channel, and starts
// every process with one channel on descriptor 3, an empty environment, a pipe
// for its output, which goes to the log, and no other descriptor. Each child compares builds,
// takes its files and channels, runs [Role.Setup] with the parent's rights, then
// gives them up: files, limits, root directory, groups, ids, looking into it by
// others, and after proof of that the system calls. Only when all have done so,
// and the parent has seen the same from outside, does anybody's [Role.Run]
// begin. A step that fails ends the daemon with a [ChildError] that names it.
//
// # Requests
//
// The channels between the processes are those of package peer: [Proc.Peer]
// asks, and [Proc.Handle] lists what a peer may ask for. Everything else ends the
// channel, and a child that breaks the parent's rules. An error that a handler
// returns is its answer.
//
// # Ownership
//
// The Proc keeps every channel and every given file open for the life of the
// process; [Proc.AddFile] takes its file. Files in messages are borrowed when sent
// and belong to the handler that takes them, as everywhere.
//
// # Without root
//
// An ordinary user runs the same program: root and ids stay as they are, the
// rest is done, and [Status] says what is missing.
//
// # End
//
// The daemon ends when ctx does, when Parent or a role's Run returns, or a child
// dies whose role does not say otherwise; see [ExitPolicy]. Children are asked
// first and killed after [Daemon.Grace]. Every process is waited for. A child
// whose parent has died ends by itself.
//
// # Limits
//
// A configuration of 1 MiB for a role, log records of 16368 bytes. A role needs
// "recvfd" or "sendfd" among its promises, or none, for files on its channels.
//
// A child's standard input is /dev/null, opened before its root was changed: a
// program that it executes can have it as standard input and output (a Cmd's
// Stdin and Stdout), where there is no file of that name.
//
// # Errors
//
// What a child fails with is a [*ChildError] with the role, the step and the
// cause, of which errors.Is finds an errno, also the child's, [ErrBuild], and
// [ErrProtocol] where the parent saw it; with the step "run" it has ended the
// daemon. [ErrUnprivileged], and [ErrNotChild] of a Run without
// [Daemon.RunChild], are the parent's own. A process that is no child of its
// parent says why on standard error, and exits with status 1. Errors of
// requests are those of package peer.
//
// # Concurrency
//
// A Daemon must not be changed while it runs. A Proc may be used by many
// goroutines at a time; of each channel, [Role.Workers] handlers run at once.
//
// # Looking in
//
// IMSG_TRACE=1 traces the messages of all channels of all processes (see
// imsg.TraceVar), and IMSG_TRACE=worker,logger those of these roles: children's
// traces are lines in the log. SIGQUIT to a process ends it with the stacks of its
// goroutines, which a child's are in the log, too.
//
// # Platforms
//
// Only Linux has been run. Elsewhere there is no looking at threads, and what a
// sandbox is depends on the system: see package sandbox.
package privsep
