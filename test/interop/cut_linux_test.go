package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/ntpd"
)

// cutChild makes this test program send a request, read a part of the answer,
// say so, and then do nothing until it is killed.
const cutChild = "IMSG_TEST_CUT_CHILD"

func init() {
	socket := os.Getenv(cutChild)
	if socket == "" {
		return
	}
	n, _ := strconv.ParseInt(os.Args[1], 10, 64)
	c, err := net.Dial("unix", socket)
	if err == nil {
		_, err = io.Copy(c, os.Stdin)
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, c, n)
	}
	if err == nil {
		os.Stdout.Close()
		for {
			unix.Pause()
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// A question is what a client asks through a cutter, and behind which bytes of the
// answer it is killed.
type question struct {
	name   string
	ask    func() error
	behind []int
}

// goneEverywhere lets clients of d be gone behind every byte of their questions,
// and killed while they read the answer. Each time alive must succeed, and in the
// end nothing be left open.
func goneEverywhere(t *testing.T, d *daemon, cut *cutter, questions []question, alive func() error) {
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			cut.set(0, 1<<30)
			testutil.Must(t, q.ask())
			request := cut.whole()
			testutil.Must(t, alive())
			before := d.openFiles(t)
			for n := range len(request) + 1 {
				c, err := net.Dial("unix", cut.server)
				testutil.Must(t, err)
				_, err = c.Write(request[:n])
				testutil.Must(t, err)
				c.Close()
				if err := alive(); err != nil {
					t.Fatalf("after %d of %d bytes of a request: %v", n, len(request), err)
				}
			}
			for _, n := range q.behind {
				cmd := exec.CommandContext(d.ctx, os.Args[0], strconv.Itoa(n))
				cmd.Env = []string{cutChild + "=" + cut.server}
				cmd.Stdin = bytes.NewReader(request)
				stdout, err := cmd.StdoutPipe()
				testutil.Must(t, err)
				testutil.Must(t, cmd.Start())
				if said, _ := io.ReadAll(stdout); len(said) > 0 {
					t.Errorf("%d bytes of an answer: %s", n, said)
				}
				cmd.Process.Kill()
				cmd.Wait()
				if err := alive(); err != nil {
					t.Fatalf("killed after %d bytes of an answer: %v", n, err)
				}
			}
			waitFor(t, d, "descriptors that are closed", func() bool { return d.openFiles(t) <= before })
		})
	}
}

// openFiles counts what the daemon's processes have open.
func (d *daemon) openFiles(t *testing.T) (n int) {
	t.Helper()
	pids := []string{strconv.Itoa(d.cmd.Process.Pid)}
	for len(pids) > 0 {
		pid := pids[0]
		files, err := os.ReadDir("/proc/" + pid + "/fd")
		testutil.Must(t, err)
		children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		testutil.Must(t, err)
		n += len(files)
		pids = append(pids[1:], strings.Fields(string(children))...)
	}
	return n
}

func TestNTPDGone(t *testing.T) {
	ntpdDaemons(t, strings.Repeat("server 127.0.0.9\n", 200), func(t *testing.T, d *daemon, direct *ntpd.Client) {
		cut := newCutter(t, d.run, d.socket("ntpd.sock"))
		c, err := ntpd.Dial(d.ctx, d.socket("cut"), nil)
		testutil.Must(t, err)
		goneEverywhere(t, d, cut, []question{
			{"status", func() error {
				_, err := c.Status(d.ctx)
				return err
			}, []int{1, 16, 17}},
			{"all", func() error {
				_, err := c.All(d.ctx)
				return err
			}, []int{1, 16, 1000, 20000}},
		}, func() error {
			_, err := direct.Status(d.ctx)
			return err
		})
	})
}

func TestBGPDGone(t *testing.T) {
	for _, p := range bgpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startBGPD(t, p.env, p.suite, manyNetworks(), 0)
			direct := dialBGPD(t, d, "bgpd.sock")
			cut := newCutter(t, d.run, d.socket("bgpd.sock"))
			c, err := bgpd.Dial(d.ctx, d.socket("cut"), nil)
			testutil.Must(t, err)
			routes := func() (n int, err error) {
				for _, err = range c.RIB(d.ctx, bgpd.Filter{}) {
					n++
				}
				return n, err
			}
			waitFor(t, d, "3003 routes", func() bool {
				n, _ := routes()
				return n == 3003
			})
			goneEverywhere(t, d, cut, []question{
				{"neighbors", func() error {
					_, err := c.Neighbors(d.ctx)
					return err
				}, []int{1, 16, 1000}},
				{"memory", func() error {
					_, err := c.Memory(d.ctx)
					return err
				}, []int{1, 16}},
				{"sets", func() error {
					_, err := c.Sets(d.ctx)
					return err
				}, []int{1, 16}},
				{"routes", func() error {
					_, err := routes()
					return err
				}, []int{1, 16, 1000, 65535, 65536, 500000, 800000}},
			}, func() error {
				_, err := direct.Memory(d.ctx)
				return err
			})
		})
	}
}
