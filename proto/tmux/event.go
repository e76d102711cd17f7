package tmux

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// An Event is what a control client is told: one of the types below, all of
// them values. IDs are written as tmux writes them: "$1" is a session, "@1" a
// window, "%1" a pane.
type Event interface{ isEvent() }

type (
	// Output is what the program in a pane has written. Data may be any bytes,
	// cut anywhere, also inside of a UTF-8 sequence.
	Output struct {
		Pane string
		Data []byte
	}

	// ExtendedOutput is Output of a client with the flag pause-after, with the
	// time that it has waited in the server.
	ExtendedOutput struct {
		Pane string
		Age  time.Duration
		Data []byte
	}

	// Pause says that the server has stopped sending the output of a pane,
	// because the client was too slow. Go on with
	// Run(ctx, "refresh-client", "-A", e.Pane+":continue"). What the pane has
	// written meanwhile is not sent any more: capture it.
	Pause struct{ Pane string }

	// Continue says that the output of a pane is sent again. tmux 3.3a does
	// not send it.
	Continue struct{ Pane string }

	// Lost stands where events are missing because the program did not take
	// them from Events in time: how many, and how many bytes of output they
	// had. Capture what matters.
	Lost struct{ Events, Bytes int }

	// LayoutChange says that panes of a window were moved or resized. Visible
	// and Flags are "" where the server does not tell.
	LayoutChange struct{ Window, Layout, Visible, Flags string }

	// WindowAdd says that a window was linked to the client's session.
	WindowAdd struct{ Window string }

	// WindowClose says that a window of the client's session was closed.
	WindowClose struct{ Window string }

	// WindowRenamed says that a window of the client's session has a new name.
	WindowRenamed struct{ Window, Name string }

	// WindowPaneChanged says which pane of a window is the active one now.
	WindowPaneChanged struct{ Window, Pane string }

	// UnlinkedWindowAdd is WindowAdd for a window of another session.
	UnlinkedWindowAdd struct{ Window string }

	// UnlinkedWindowClose is WindowClose for a window of another session.
	// tmux before 3.8 tells of the client's own windows like this, too.
	UnlinkedWindowClose struct{ Window string }

	// UnlinkedWindowRenamed is WindowRenamed for a window of another session.
	UnlinkedWindowRenamed struct{ Window, Name string }

	// PaneModeChanged says that a pane has entered or left a mode, such as copy
	// mode.
	PaneModeChanged struct{ Pane string }

	// SessionChanged says which session the client is attached to now.
	SessionChanged struct{ Session, Name string }

	// SessionRenamed says that a session has a new name.
	SessionRenamed struct{ Session, Name string }

	// SessionsChanged says that a session was made or has ended.
	SessionsChanged struct{}

	// SessionWindowChanged says which window of a session is the current one
	// now.
	SessionWindowChanged struct{ Session, Window string }

	// ClientSessionChanged says that another client is attached to a session
	// now.
	ClientSessionChanged struct{ Client, Session, Name string }

	// ClientDetached says that another client has gone.
	ClientDetached struct{ Client string }

	// PasteBufferChanged says that a paste buffer was made or changed.
	PasteBufferChanged struct{ Buffer string }

	// PasteBufferDeleted says that a paste buffer was deleted.
	PasteBufferDeleted struct{ Buffer string }

	// Subscription is the new value of a format to which the client has
	// subscribed with refresh-client -B. Window, Index and Pane are "" where
	// it is not about one.
	Subscription struct{ Name, Session, Window, Index, Pane, Value string }

	// ConfigError is an error in a configuration file.
	ConfigError struct{ Text string }

	// Notice is a message for the user (%message).
	Notice struct{ Text string }

	// Exit is the last event: the client has ended, for the reason that the
	// server gave, which may be "".
	Exit struct{ Reason string }

	// Unknown is a line that is none of the above.
	Unknown struct{ Line []byte }
)

func (Output) isEvent()                {}
func (ExtendedOutput) isEvent()        {}
func (Pause) isEvent()                 {}
func (Continue) isEvent()              {}
func (Lost) isEvent()                  {}
func (LayoutChange) isEvent()          {}
func (WindowAdd) isEvent()             {}
func (WindowClose) isEvent()           {}
func (WindowRenamed) isEvent()         {}
func (WindowPaneChanged) isEvent()     {}
func (UnlinkedWindowAdd) isEvent()     {}
func (UnlinkedWindowClose) isEvent()   {}
func (UnlinkedWindowRenamed) isEvent() {}
func (PaneModeChanged) isEvent()       {}
func (SessionChanged) isEvent()        {}
func (SessionRenamed) isEvent()        {}
func (SessionsChanged) isEvent()       {}
func (SessionWindowChanged) isEvent()  {}
func (ClientSessionChanged) isEvent()  {}
func (ClientDetached) isEvent()        {}
func (PasteBufferChanged) isEvent()    {}
func (PasteBufferDeleted) isEvent()    {}
func (Subscription) isEvent()          {}
func (ConfigError) isEvent()           {}
func (Notice) isEvent()                {}
func (Exit) isEvent()                  {}
func (Unknown) isEvent()               {}

// parseEvent makes an event of a line, without its newline, that is no part of
// a reply. The event has no part of the line's memory.
func parseEvent(line []byte) Event {
	name, rest, _ := bytes.Cut(line, []byte(" "))
	switch string(name) {
	case "%output":
		if pane, data, ok := bytes.Cut(rest, []byte(" ")); ok && isID('%', string(pane)) {
			return Output{string(pane), unescape(data)}
		}
	case "%extended-output": // %0 AGE [reserved] : DATA
		head, data, ok := bytes.Cut(rest, []byte(" : "))
		f := bytes.Fields(head)
		if !ok || len(f) < 2 || !isID('%', string(f[0])) {
			break
		}
		if ms, err := strconv.ParseUint(string(f[1]), 10, 63); err == nil && ms < 1<<43 {
			return ExtendedOutput{string(f[0]), time.Duration(ms) * time.Millisecond, unescape(data)}
		}
	default:
		if e := parseNotification(string(name), string(rest)); e != nil {
			return e
		}
	}
	return Unknown{bytes.Clone(line)}
}

// parseNotification makes an event of a notification that has no escapes; nil
// if it is none that is known.
func parseNotification(name, rest string) Event {
	first, more, _ := strings.Cut(rest, " ")
	var e Event
	switch {
	case isID('@', first):
		e = parseWindow(name, first, more, rest)
	case isID('$', first):
		e = parseSession(name, first, more)
	case isID('%', first) && more == "":
		e = parsePane(name, first)
	}
	if e != nil {
		return e
	}
	switch name { // the rest of the line may be anything, also what looks like an ID
	case "%sessions-changed":
		if rest == "" {
			return SessionsChanged{}
		}
	case "%client-session-changed":
		if session, name, ok := strings.Cut(more, " "); ok && isID('$', session) {
			return ClientSessionChanged{first, session, name}
		}
	case "%client-detached":
		return ClientDetached{rest}
	case "%paste-buffer-changed":
		return PasteBufferChanged{rest}
	case "%paste-buffer-deleted":
		return PasteBufferDeleted{rest}
	case "%subscription-changed":
		return parseSubscription(rest)
	case "%config-error":
		return ConfigError{rest}
	case "%message":
		return Notice{rest}
	}
	return nil
}

// parseWindow makes an event of a notification about a window; more is what
// follows its ID, and rest both.
func parseWindow(name, window, more, rest string) Event {
	switch name {
	case "%layout-change":
		if f := append(strings.Fields(rest), "", ""); len(f) >= 4 {
			return LayoutChange{f[0], f[1], f[2], f[3]}
		}
	case "%window-renamed":
		return WindowRenamed{window, more}
	case "%unlinked-window-renamed":
		return UnlinkedWindowRenamed{window, more}
	case "%window-pane-changed":
		if isID('%', more) {
			return WindowPaneChanged{window, more}
		}
	}
	if more != "" {
		return nil
	}
	switch name {
	case "%window-add":
		return WindowAdd{window}
	case "%unlinked-window-add":
		return UnlinkedWindowAdd{window}
	case "%window-close":
		return WindowClose{window}
	case "%unlinked-window-close":
		return UnlinkedWindowClose{window}
	}
	return nil
}

// parseSession makes an event of a notification about a session.
func parseSession(name, session, more string) Event {
	switch name {
	case "%session-changed":
		return SessionChanged{session, more}
	case "%session-renamed":
		return SessionRenamed{session, more}
	case "%session-window-changed":
		if isID('@', more) {
			return SessionWindowChanged{session, more}
		}
	}
	return nil
}

// parsePane makes an event of a notification about a pane.
func parsePane(name, pane string) Event {
	switch name {
	case "%pause":
		return Pause{pane}
	case "%continue":
		return Continue{pane}
	case "%pane-mode-changed":
		return PaneModeChanged{pane}
	}
	return nil
}

// parseSubscription parses NAME $1 @1 INDEX %1 : VALUE, where "-" is nothing.
func parseSubscription(s string) Event {
	head, value, ok := strings.Cut(s, " : ")
	f := strings.Split(head, " ")
	if !ok || len(f) < 5 {
		return nil
	}
	for i := 1; i < len(f); i++ {
		if f[i] == "-" {
			f[i] = ""
		}
	}
	return Subscription{f[0], f[1], f[2], f[3], f[4], value}
}

// isID reports whether s is an ID of the kind: '$', '@' or '%'.
func isID(kind byte, s string) bool {
	return len(s) >= 2 && s[0] == kind && strings.Trim(s[1:], "0123456789") == ""
}

// unescape undoes \ooo. A backslash with no three octal digits of a byte behind
// it, which tmux does not send, stays as it is.
func unescape(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(out, s...)
		}
		out, s = append(out, s[:i]...), s[i:]
		if len(s) >= 4 && s[1]-'0' < 4 && s[2]-'0' < 8 && s[3]-'0' < 8 {
			out, s = append(out, (s[1]-'0')<<6|(s[2]-'0')<<3|(s[3]-'0')), s[4:]
		} else {
			out, s = append(out, '\\'), s[1:]
		}
	}
	return out
}
