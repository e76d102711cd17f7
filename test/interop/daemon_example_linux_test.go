package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/ntpd"
)

// example builds an example and returns a function that runs it.
func example(t *testing.T, name string) func(args ...string) (string, int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root") // as the daemons do
	}
	path := build(t, "examples/"+name)
	return func(args ...string) (string, int) {
		cmd := exec.CommandContext(bounded(t), path, append([]string{"-timeout", limit.String()}, args...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
}

func TestNTPStatExample(t *testing.T) {
	run := example(t, "ntpstat")
	ntpdDaemons(t, "server 127.0.0.9\nserver 127.0.0.8 weight 3\n", func(t *testing.T, d *daemon, _ *ntpd.Client) {
		out, status := run("-s", d.socket("ntpd.sock"))
		if status != 1 || !strings.HasPrefix(out, "clock unsynced, offset ") || !strings.Contains(out, "\n127.0.0.8  3 ") {
			t.Errorf("status %d: %s", status, out)
		}
		var all ntpd.All
		out, status = run("-s", d.socket("ntpd.sock"), "-json")
		if err := json.Unmarshal([]byte(out), &all); err != nil || status != 1 || len(all.Peers) != 2 || all.Peers[1].Weight != 3 {
			t.Errorf("status %d, %v: %s", status, err, out)
		}
		if out, status := run("-s", d.socket("nobody")); status != 2 || !strings.Contains(out, "no ntpd is running there") {
			t.Errorf("status %d: %s", status, out)
		}
	})
}

func TestBGPSummaryExample(t *testing.T) {
	run := example(t, "bgpsummary")
	bgpdDaemons(t, func(t *testing.T, d *daemon, _ *bgpd.Client) {
		out, status := run("-s", d.socket("bgpd.sock"))
		if status != 0 || !strings.Contains(out, "\npeer-a") || !strings.Contains(out, "Idle, down\n") {
			t.Errorf("status %d: %s", status, out)
		}
		var all []struct {
			Name, State string
			Prefixes    int
		}
		out, status = run("-s", d.socket("bgpd.sock"), "-json")
		if err := json.Unmarshal([]byte(out), &all); err != nil || status != 0 || len(all) != 3 || all[0].State != "Established" || all[0].Prefixes != 2 {
			t.Errorf("status %d, %v: %s", status, err, out)
		}
		if out, status := run("-s", d.socket("nobody")); status != 1 || !strings.Contains(out, "no bgpd is running there") {
			t.Errorf("status %d: %s", status, out)
		}
	})
}
