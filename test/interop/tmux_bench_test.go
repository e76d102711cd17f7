package interop

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/tmux"
)

// What a command costs: list-windows by a process of its own, by tmux -C over
// pipes, and by each way of this library. ns/op is for one command.
func BenchmarkTmux(b *testing.B) {
	for _, p := range tmuxPrograms {
		b.Run(p.name, func(b *testing.B) {
			s := startTmux(b, tmuxProgram(b, p.env, p.suite)...)
			b.Run("fork", s.benchFork)
			b.Run("pipe", s.benchPipe)
			b.Run("run", s.benchRun)
			b.Run("control", s.benchControl)
			b.Run("controllist", s.benchControlList)
			b.Run("list", s.benchList)
		})
	}
}

var (
	benchCommand = []string{"list-windows", "-t", "peer", "-F", "#{window_name}"}
	benchOutput  = "win\n"
)

func (s *tmuxServer) benchFork(b *testing.B) {
	args := slices.Concat(s.argv, []string{"-S", s.socket}, benchCommand)
	for b.Loop() {
		cmd := exec.Command(args[0], args[1:]...)
		if out, err := cmd.Output(); err != nil || string(out) != benchOutput {
			b.Fatalf("%q, %v", out, err)
		}
	}
}

// benchPipe uses tmux's own control client.
func (s *tmuxServer) benchPipe(b *testing.B) {
	args := slices.Concat(s.argv, []string{"-S", s.socket, "-C", "attach-session", "-t", "peer"})
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	testutil.Must(b, err)
	out, err := cmd.StdoutPipe()
	testutil.Must(b, err)
	testutil.Must(b, cmd.Start())
	r := bufio.NewReader(out)
	until := func(prefix string) {
		for {
			line, err := r.ReadString('\n')
			testutil.Must(b, err)
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	until("%session-changed")
	line := fmt.Sprintf("list-windows -t peer -F '%s'\n", benchCommand[4])
	for b.Loop() {
		if _, err := io.WriteString(in, line); err != nil {
			b.Fatal(err)
		}
		until("%end")
	}
	in.Close()
	io.Copy(io.Discard, r)
	cmd.Wait()
}

func (s *tmuxServer) benchRun(b *testing.B) {
	c := s.client(b, b.Context())
	for b.Loop() {
		r, err := c.Run(b.Context(), benchCommand...)
		checkBench(b, r, err)
	}
}

func (s *tmuxServer) benchControl(b *testing.B) {
	k := s.benchClient(b)
	for b.Loop() {
		r, err := k.Run(b.Context(), benchCommand...)
		checkBench(b, r, err)
	}
}

func (s *tmuxServer) benchControlList(b *testing.B) {
	k := s.benchClient(b)
	results, err := k.RunList(b.Context(), slices.Repeat([][]string{benchCommand}, b.N))
	checkBench(b, results[len(results)-1], err)
}

func (s *tmuxServer) benchClient(b *testing.B) *tmux.Control {
	k, err := s.client(b, b.Context()).Control(b.Context(), "peer")
	testutil.Must(b, err)
	b.Cleanup(func() { k.Close() })
	return k
}

// benchList runs lists of 1000.
func (s *tmuxServer) benchList(b *testing.B) {
	c := s.client(b, b.Context())
	for n := b.N; n > 0; n -= 1000 {
		results, err := c.RunList(b.Context(), slices.Repeat([][]string{benchCommand}, min(n, 1000)))
		checkBench(b, results[len(results)-1], err)
	}
}

func checkBench(b *testing.B, r tmux.Result, err error) {
	if err != nil || string(r.Stdout) != benchOutput {
		b.Fatalf("%q, %v, %v", r.Stdout, r.Err(), err)
	}
}
