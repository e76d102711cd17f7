package interop

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/ntpd"
)

// imsgctl send asks ntpd for its status, by names alone: the socket tells the
// profile, and the size of the answer its struct.
func TestImsgctlSend(t *testing.T) {
	exe := build(t, "cmd/imsgctl")
	ntpdDaemons(t, "server 127.0.0.9\nserver 127.0.0.8 weight 3\n", func(t *testing.T, d *daemon, c *ntpd.Client) {
		want, err := c.Status(d.ctx)
		if err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) []byte {
			t.Helper()
			out, err := exec.CommandContext(d.ctx, exe, append([]string{"send"}, args...)...).Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			return out
		}
		var got struct {
			Name, Profile string
			Fields        struct{ Peercnt, Stratum int }
		}
		out := run("--json", d.socket("ntpd.sock"), "CTL_SHOW_STATUS")
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got.Name != "CTL_SHOW_STATUS" || got.Profile != "ntpd" || got.Fields.Peercnt != want.Peers || got.Fields.Stratum != want.Stratum {
			t.Errorf("%s, want %+v", out, want)
		}
		out = run("--until", "CTL_SHOW_PEERS_END", "-v", d.socket("ntpd.sock"), "CTL_SHOW_PEERS")
		if n := strings.Count(string(out), "    peer_desc = "); n != want.Peers {
			t.Errorf("%d peers, want %d:\n%s", n, want.Peers, out)
		}
	})
}

// imsgctl send asks each version of bgpd for its IPv4 routes, by fields.
func TestImsgctlSendRIB(t *testing.T) {
	exe := build(t, "cmd/imsgctl")
	bgpdDaemons(t, func(t *testing.T, d *daemon, c *bgpd.Client) {
		profile := "bgpd"
		if c.Version() == "7.7" {
			profile = "bgpd7"
		}
		out, err := exec.CommandContext(d.ctx, exe, "send", "-v", "--profile", profile, "--until", "CTL_END", d.socket("bgpd.sock"), "CTL_SHOW_RIB", "aid=1").Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"CTL_SHOW_RIB ", "    prefix.v4 = 192.0.2.0\n", "    prefix.v4 = 198.51.100.0\n", "    prefixlen = 24\n", "    local_pref = 200\n"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		if strings.Contains(string(out), "v6") {
			t.Errorf("IPv6 was not asked for:\n%s", out)
		}
	})
}
