package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPorts: what "inet" still opens when Ports narrow it.
func TestPorts(t *testing.T) {
	needFilter(t)
	for _, row := range []struct{ perm, want string }{
		{"", "accept ok, bind EPERM, bind other EPERM, connect EPERM, connect other EPERM, udp EPERM, mptcp EPERM"},
		{"b", "accept ok, bind ok, bind other EACCES, connect EPERM, connect other EPERM, udp EPERM, mptcp EPERM"},
		{"c", "accept ok, bind EPERM, bind other EPERM, connect ok, connect other EACCES, udp EPERM, mptcp EPERM"},
		{"bc", "accept ok, bind ok, bind other EACCES, connect ok, connect other EACCES, udp EPERM, mptcp EPERM"},
	} {
		t.Run(row.perm, func(t *testing.T) {
			require := "require"
			if row.perm == "" {
				require = "" // nothing that Landlock is needed for
			} else {
				needLandlock(t, 4)
			}
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				out, err := run(t, "ports", Policy{Promises: "stdio inet"}, cred, tempDir(t), row.perm, require)
				if out != row.want || err != nil {
					t.Errorf("%v\n got %s\nwant %s", err, out, row.want)
				}
			})
		})
	}
	// An old kernel says that the ports are open, and a requirement fails.
	for abi, gaps := range map[int]string{3: "tcp", 4: ""} {
		p := Policy{Promises: "stdio inet", Ports: []Port{{179, "c"}}}
		w, err := p.words()
		if err != nil {
			t.Fatal(err)
		}
		plan, err := (kernel{goarch: "amd64", landlock: landlockKernel{abi: abi}}).prepare(p, w, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(plan.states[2].Gaps, "|"); got != gaps {
			t.Errorf("ABI %d: gaps %q, want %q", abi, got, gaps)
		}
	}
}

// portsChild uses a port that is in its policy with the permission of its first
// argument, and another one.
func portsChild(p Policy) error {
	perm := os.Args[1]
	given, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp4", given.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	var ports [2]uint16 // free ones
	var held [2]net.Listener
	for i := range ports {
		if held[i], err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
		ports[i] = uint16(held[i].Addr().(*net.TCPAddr).Port)
	}
	p.Ports = []Port{}
	if perm != "" {
		p.Ports = append(p.Ports, Port{ports[0], perm})
	}
	if os.Args[2] != "" {
		p.Require = Seccomp | Landlock
	}
	if _, err := Enter(p); err != nil {
		return err
	}
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	dial := func(i int) error {
		c, err := net.Dial("tcp4", addr(i))
		if err == nil {
			c.Close()
		}
		return err
	}
	listen := func(i int) error { return closeAfter(net.Listen("tcp4", addr(i))) }
	accept := func() error {
		c, err := given.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	}
	connect, connectOther := dial(0), dial(1)
	for _, l := range held {
		l.Close()
	}
	_, udp := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	_, mptcp := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	fmt.Printf("accept %s, bind %s, bind other %s, connect %s, connect other %s, udp %s, mptcp %s\n", describe(accept()),
		describe(listen(0)), describe(listen(1)), describe(connect), describe(connectOther), describe(udp), describe(mptcp))
	return nil
}
