package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
	"example.org/imsg/internal/relay"
)

// A sender is one run of send.
type sender struct {
	a      *app
	output outputFlags
	out    *output

	id            uint32
	pid           int32
	dialect       string
	file          string
	rw            bool
	until         []string
	answers       int
	timeout       time.Duration
	length, cut   int
	mark          string
	raw, yes      bool
	answersWanted bool // -n was given

	conn    *imsg.Conn
	address string
	peer    capture.Endpoint
	uid     uint32
	profile *profile.Profile
}

func newSendCommand(a *app) *cobra.Command {
	s := &sender{a: a}
	c := &cobra.Command{
		Use:   "send address type [payload...]",
		Short: "Send a message and show the answers",
		Long: `Send connects to a socket, sends one message, and shows what comes back. The
type is a number, or a name that the profile has; with --profile auto that is the
one of the program at the other end.

The payload is any of these, one behind the other: hex:0a0b, text:abc, @FILE, and
@- for standard input. Or it is fields of the struct that the profile has, as
name=value, in.ner=value, name=a,b for an array, or as one JSON object; what is
not named is zero (imsgctl types PROGRAM tells the names).

It waits for one answer, -n answers, or until a type that --until names. An
answer that does not come is an error. Descriptors that come with answers are
shown, and closed.

--len, --mark, --cut and --raw make messages that no program should send. A
program that is not yours may end: send asks before, unless --yes.`,
		Example: `  imsgctl send /run/openntpd/ntpd.sock CTL_SHOW_STATUS -v
  imsgctl send -v --until CTL_END /run/bgpd.sock.0 CTL_SHOW_RIB aid=1
  imsgctl send ./d.sock 7 --file /etc/hosts text:hosts hex:00
  imsgctl send ./d.sock 7 --len 15 --yes        does it survive a length below 16?`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			s.answersWanted = c.Flags().Changed("answers")
			for _, name := range []string{"len", "cut"} {
				if n, _ := c.Flags().GetInt(name); c.Flags().Changed(name) && (n < 0 || int64(n) > math.MaxUint32) {
					return usagef("--%s %d: 0 to %d", name, n, uint32(math.MaxUint32))
				}
			}
			for _, name := range []string{"len", "mark", "id", "pid"} {
				if s.raw && c.Flags().Changed(name) {
					return usagef("--raw sends no header, which --%s would change", name)
				}
			}
			return s.run(c.Context(), args)
		},
		ValidArgsFunction: s.complete,
	}
	fs := c.Flags()
	s.output.add(fs)
	fs.Uint32Var(&s.id, "id", 0, "the header's id")
	fs.Int32Var(&s.pid, "pid", int32(os.Getpid()), "the header's pid")
	fs.Lookup("pid").DefValue = "imsgctl's own"
	fs.StringVar(&s.dialect, "dialect", "auto", "layout of the header: auto (the profile's), current or legacy")
	fs.StringVar(&s.file, "file", "", "pass a descriptor of `PATH`, opened to be read")
	fs.BoolVar(&s.rw, "rw", false, "open it to be read and written")
	fs.StringArrayVar(&s.until, "until", nil, "wait until an answer has `TYPE`; again for another one")
	fs.IntVarP(&s.answers, "answers", "n", 1, "wait for `N` answers, at most if --until is there, too")
	fs.DurationVar(&s.timeout, "timeout", 5*time.Second, "for everything")
	fs.IntVar(&s.length, "len", -1, "malformed: the header says `N` bytes")
	fs.StringVar(&s.mark, "mark", "", "malformed: the header announces a file (yes) or none (no)")
	fs.IntVar(&s.cut, "cut", -1, "malformed: only the first `N` bytes, then the end")
	fs.BoolVar(&s.raw, "raw", false, "malformed: no header, the payload behind ADDRESS is everything")
	fs.BoolVar(&s.yes, "yes", false, "do not ask before a malformed message to another user's program")
	for name, values := range map[string][]string{"dialect": {"auto", "current", "legacy"}, "mark": {"yes", "no"}} {
		c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

func (s *sender) run(ctx context.Context, args []string) (err error) {
	if !slices.Contains([]string{"auto", "current", "legacy"}, s.dialect) {
		return usagef("--dialect %q: auto, current or legacy", s.dialect)
	}
	if !slices.Contains([]string{"", "yes", "no"}, s.mark) {
		return usagef("--mark %q: yes or no", s.mark)
	}
	switch {
	case s.answers < 0:
		return usagef("-n %d: at least 0", s.answers)
	case s.rw && s.file == "":
		return usagef("--rw belongs to --file")
	case s.timeout <= 0:
		return usagef("--timeout %v: more than 0", s.timeout)
	}
	if s.out, err = s.output.open(ctx, s.a); err != nil {
		return err
	}
	defer func() {
		if cerr := s.out.Close(); err == nil {
			err = cerr
		}
	}()
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.connect(ctx, args[0]); err != nil {
		return err
	}
	defer s.conn.Close()
	r, message, err := s.message(args[1:])
	if err != nil {
		return err
	}
	until, err := s.types(s.until)
	if err != nil {
		return err
	}
	if err := s.ask(); err != nil {
		return err
	}
	if err := s.send(ctx, r, message); err != nil {
		return err
	}
	n, err := s.receive(ctx, until)
	switch {
	case errors.Is(err, imsg.ErrTooLarge):
		err = errors.New(strings.ReplaceAll(err.Error(), " (see SetMaxSize, of both ends)", ""))
	case err == nil:
		s.leave(parent)
	case errors.Is(err, context.DeadlineExceeded) && parent.Err() == nil:
		err = fmt.Errorf("%s within %v", count(n, "answer"), s.timeout)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		err = fmt.Errorf("%s has closed the connection after %s", s.program(), count(n, "answer"))
	}
	return err
}

// connect connects, and finds who is there.
func (s *sender) connect(ctx context.Context, address string) (err error) {
	s.address = strings.TrimPrefix(address, "unix:")
	if s.conn, err = imsg.Dial(ctx, s.address, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}); err != nil {
		return err
	}
	cred, err := s.conn.PeerCred()
	if err != nil {
		return err
	}
	s.uid, s.peer = cred.UID, relay.ProcessOf(cred.PID)
	switch s.output.profile {
	case "auto":
		s.profile = profile.For(s.address, s.peer.Exe)
	case "none":
	default:
		s.profile, err = profile.Load(s.output.profile)
	}
	if s.dialect == "auto" && s.profile != nil && s.profile.Legacy {
		s.dialect = "legacy"
	}
	if err == nil && s.dialect != "legacy" {
		err = s.conn.SetMaxSize(1 << 20) // of answers: more than any program that is known sends
	}
	if s.dialect != "auto" {
		s.conn.SetDialect(s.header())
	}
	return err
}

// header is the dialect of what is sent.
func (s *sender) header() imsg.Dialect {
	if s.dialect == "legacy" {
		return imsg.Legacy
	}
	return imsg.Current
}

// types finds the numbers of types.
func (s *sender) types(names []string) (types []uint32, err error) {
	for _, name := range names {
		n, err := strconv.ParseUint(name, 0, 32)
		typ, ok := uint32(n), err == nil
		if !ok {
			typ, ok = s.profile.TypeNumber(name)
		}
		if errors.Is(err, strconv.ErrRange) {
			return nil, usagef("type %s: at most %d", name, uint32(math.MaxUint32))
		}
		if !ok && s.profile == nil {
			return nil, usagef("no profile for %s: the type is a number, not %q, or there is a --profile", s.program(), name)
		} else if !ok {
			return nil, usagef("profile %s has no type %q (imsgctl types %s lists them)", s.profile.Name, name, s.profile.Name)
		}
		types = append(types, typ)
	}
	return types, nil
}

func (s *sender) program() string { return string(appendEnd(nil, s.peer, "the other end")) }

// message makes what is sent, and the record of it.
func (s *sender) message(args []string) (r *capture.Record, message []byte, err error) {
	r = &capture.Record{Name: s.address, Dir: capture.DirOut, From: self(), To: s.peer, Header: imsg.Header{ID: s.id, PID: s.pid}}
	if !s.raw {
		types, err := s.types(args[:1])
		if err != nil {
			return nil, nil, err
		}
		r.Header.Type, args = types[0], args[1:]
	}
	payload, err := s.payload(r.Header.Type, args)
	if err != nil {
		return nil, nil, err
	}
	r.Payload, r.Len = payload, imsg.HeaderSize+len(payload)
	r.Marked = s.file != "" && s.mark == "" || s.mark == "yes"
	r.Dialect = capture.Current
	if s.header() == imsg.Legacy {
		r.Dialect = capture.Legacy
	}
	if s.header() == imsg.Legacy && r.Len > 1<<16-1 {
		return nil, nil, usagef("the legacy dialect has at most %d bytes of payload, not %d", 1<<16-1-imsg.HeaderSize, len(payload))
	}
	message = payload
	if !s.raw {
		length := r.Len
		if s.length >= 0 {
			length = s.length
			r.Note = fmt.Sprintf("the header says %d bytes", length)
		}
		message = make([]byte, imsg.HeaderSize, r.Len)
		s.header().Encode(message, binary.NativeEndian, r.Header, length, r.Marked)
		message = append(message, payload...)
	}
	if s.cut > len(message) {
		return nil, nil, usagef("--cut %d: the message has %d bytes", s.cut, len(message))
	}
	if s.cut >= 0 {
		message, r.Note = message[:s.cut], fmt.Sprintf("only %d bytes were sent", s.cut)
	}
	return r, message, nil
}

// ask makes sure that a message that may harm is meant.
func (s *sender) ask() error {
	malformed := s.raw || s.length >= 0 || s.cut >= 0 || s.mark != ""
	if !malformed || s.yes || int(s.uid) == os.Geteuid() {
		return nil
	}
	what := fmt.Sprintf("%s belongs to uid %d, and may end for a malformed message", s.program(), s.uid)
	if !s.a.inTTY || !s.a.errTTY {
		return usagef("%s: --yes sends it", what)
	}
	fmt.Fprintf(s.a.stderr, "imsgctl: send: %s. Send it? [y/N] ", what)
	answer, _ := bufio.NewReader(s.a.stdin).ReadString('\n')
	if strings.ToLower(strings.TrimSpace(answer)) != "y" {
		return errors.New("not sent")
	}
	return nil
}

// send writes the message, with the file at its first byte.
func (s *sender) send(ctx context.Context, r *capture.Record, message []byte) error {
	var rights []byte
	if s.file != "" {
		mode := os.O_RDONLY
		if s.rw {
			mode = os.O_RDWR
		}
		f, err := os.OpenFile(s.file, mode|syscall.O_NONBLOCK, 0) // of a pipe, nobody may be at the other end
		if err != nil {
			return err
		}
		defer f.Close()
		r.Files = []capture.File{relay.DescribeFile(f)}
		rights = unix.UnixRights(int(f.Fd()))
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		s.conn.SetWriteDeadline(deadline)
	}
	r.Time = time.Now()
	for len(message) > 0 {
		n, e := 0, error(nil)
		err := raw.Write(func(fd uintptr) bool {
			n, e = unix.SendmsgN(int(fd), message, rights, nil, 0)
			return e != unix.EAGAIN && e != unix.EINTR
		})
		if err = errors.Join(err, e); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		message, rights = message[n:], nil
	}
	if s.cut >= 0 {
		s.conn.CloseWrite()
	}
	if s.output.verbose || s.output.write != "" {
		return s.out.Write(r)
	}
	return nil
}

// receive shows answers until there are enough, and returns how many came.
func (s *sender) receive(ctx context.Context, until []uint32) (n int, err error) {
	most := s.answers
	if len(until) > 0 && !s.answersWanted {
		most = math.MaxInt
	}
	for n < most {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return n, err
		}
		n++
		typ := m.Type()
		if err := s.show(m); err != nil {
			return n, err
		}
		if slices.Contains(until, typ) {
			return n, nil
		}
	}
	if len(until) > 0 {
		return n, fmt.Errorf("%s, and none of a type that --until names", count(n, "answer"))
	}
	return n, nil
}

// show shows an answer, and closes it.
func (s *sender) show(m imsg.Message) error {
	defer m.Close()
	r := &capture.Record{
		Time: time.Now(), Wait: -1, Name: s.address, Dir: capture.DirIn, From: s.peer, To: self(),
		Header: m.Header(), Len: imsg.HeaderSize + m.Len(), Payload: m.Bytes(), Marked: m.HasFile() || m.FileErr() != nil,
	}
	switch s.conn.Dialect() {
	case imsg.Current:
		r.Dialect = capture.Current
	case imsg.Legacy:
		r.Dialect = capture.Legacy
	}
	if f := m.TakeFile(); f != nil {
		r.Files = []capture.File{relay.DescribeFile(f)}
		f.Close()
	} else if r.Marked {
		r.Files = []capture.File{{From: -1, To: -1, Lost: true}}
	}
	if err := s.out.Write(r); err != nil {
		return err
	}
	return s.out.Flush()
}

// leave lets the other end finish: some programs do not survive that what they
// say is not read.
func (s *sender) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	s.conn.CloseWrite()
	for {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return
		}
		m.Close()
	}
}

// self is this end of the channel.
func self() capture.Endpoint { return relay.ProcessOf(os.Getpid()) }

// complete tells a shell what can follow.
func (s *sender) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	p, err := profile.Load(s.output.profile)
	if err != nil {
		p = profile.For(args[0])
	}
	if len(args) == 1 {
		return p.TypeNames(), cobra.ShellCompDirectiveNoFileComp
	}
	typ, _ := p.TypeNumber(args[1])
	var names []string
	for _, name := range p.FieldNames(typ) {
		names = append(names, name+"=")
	}
	return names, cobra.ShellCompDirectiveNoSpace
}
