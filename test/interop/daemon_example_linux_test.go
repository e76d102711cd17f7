package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
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

// What is no flag is not ignored: it may be a socket without -s.
func TestExampleArguments(t *testing.T) {
	for _, name := range []string{"bgpsummary", "ntpstat"} {
		out, status := example(t, name)("a.sock")
		if want := name + ": unexpected argument \"a.sock\"\n"; status != 2 || !strings.HasPrefix(out, want) {
			t.Errorf("status %d, %q, want 2, %q", status, out, want)
		}
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

// The exporter says what bgpctl's own metrics say: all that it has in common, and
// all but what it cannot know.
func TestMetricsExample(t *testing.T) {
	run := example(t, "metrics")
	bgpdDaemons(t, func(t *testing.T, d *daemon, c *bgpd.Client) {
		var want string
		got := sameTwice(t, d, func() map[string]string {
			out, status := run("-once", "-bgpd", d.socket("bgpd.rsock"))
			if status != 0 {
				t.Fatalf("status %d: %s", status, out)
			}
			return metrics(out)
		}, func() {
			if c.Version() == "7.7" { // it has no metrics
				return
			}
			want = d.control("/usr/sbin/bgpctl", "-s", "/run/openbgpd/bgpd.sock", "show", "metric")
		})
		if got["bgpd_up{}"] != "1" {
			t.Errorf("bgpd_up is %q", got["bgpd_up{}"])
		}
		known := 0
		for key, v := range metrics(want) {
			mine, ok := got[key]
			switch {
			case !ok && strings.HasPrefix(key, "bgpd_rde_memory_usage_bytes"), strings.HasPrefix(key, "bgpd_info"):
			case !ok && c.Version() < "9" && strings.Contains(key, "2001:db8::9"): // a neighbor without a description has no label for it
			case !ok:
				t.Errorf("bgpctl has %s %s", key, v)
			case mine != v:
				t.Errorf("%s is %s, bgpctl has %s", key, mine, v)
			default:
				known++
			}
		}
		t.Logf("%d metrics are the same", known)
		if known < 80 && want != "" {
			t.Errorf("only %d of bgpctl's metrics", known)
		}
	})
}

// metrics returns the values of a page by name and sorted labels, without those
// that time changes.
func metrics(page string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		name, labels, _ := strings.Cut(line[:i], "{")
		if strings.HasSuffix(name, "_seconds") || strings.HasPrefix(name, "bgpd_rde_evloop") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(labels, "}"), `",`)
		for i := range parts {
			parts[i] = strings.Replace(strings.TrimSuffix(parts[i], `"`), `="`, "=", 1)
		}
		parts = slices.DeleteFunc(parts, func(s string) bool { return strings.HasSuffix(s, "=") }) // bgpctl leaves empty ones out
		slices.Sort(parts)
		all[name+"{"+strings.Join(parts, ",")+"}"] = line[i+1:]
	}
	return all
}
