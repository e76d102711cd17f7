package interop

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/imsg/proto/ntpd"
)

// ntpdPrograms are the versions of OpenNTPD to test with.
var ntpdPrograms = []struct{ name, env, suite, user, runAt string }{
	{"legacy", "IMSG_NTPD_LEGACY", "bookworm", "ntpd", "/var/lib/openntpd/run"}, // 6.2p3
	{"current", "IMSG_NTPD_CURRENT", "forky", "_ntpd", "/run/openntpd"},         // 7.9p1
}

// ntpdDaemons calls test with a daemon of each version. Nobody answers its
// questions.
func ntpdDaemons(t *testing.T, config string, test func(t *testing.T, d *daemon, c *ntpd.Client)) {
	for _, p := range ntpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startDaemon(t, p.env, p.suite, isolation{
				User: p.user, RunAt: p.runAt, Dirs: []string{"run/openntpd", "var/lib/openntpd/run", "var/lib/openntpd/db"},
				Files: map[string]string{"etc/ntpd.conf": config},
				Argv:  []string{"/usr/sbin/ntpd", "-d", "-f", "/etc/ntpd.conf"},
			}, "ntpd.sock")
			c, err := ntpd.Dial(d.ctx, d.socket("ntpd.sock"), nil)
			if err != nil {
				t.Fatal(err)
			}
			test(t, d, c)
		})
	}
}

// What the client is told is what ntpctl prints.
func TestNTPDAsNtpctl(t *testing.T) {
	for name, config := range map[string]string{
		"two":  "server 127.0.0.9\nserver 127.0.0.8 weight 3\n",
		"none": "",
	} {
		t.Run(name, func(t *testing.T) {
			ntpdDaemons(t, config, func(t *testing.T, d *daemon, c *ntpd.Client) {
				for { // until no second passed meanwhile
					before, err := c.All(d.ctx)
					if err != nil {
						t.Fatal(err)
					}
					want := d.control("/usr/sbin/ntpctl", "-s", "all")
					after, err := c.All(d.ctx)
					if err != nil {
						t.Fatal(err)
					}
					if !reflect.DeepEqual(before, after) {
						continue
					}
					if got, want := ntpctl(before), words(want); got != want {
						t.Errorf("the client knows\n%s\nntpctl prints\n%s", got, want)
					}
					return
				}
			})
		})
	}
}

// words returns the words of each line that is not empty.
func words(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if w := strings.Fields(line); len(w) > 0 {
			b.WriteString(strings.Join(w, " ") + "\n")
		}
	}
	return b.String()
}

// ntpctl returns what ntpctl makes of a.
func ntpctl(a ntpd.All) string {
	var b strings.Builder
	s := a.Status
	if s.Peers > 0 {
		fmt.Fprintf(&b, "%d/%d peers valid, ", s.ValidPeers, s.Peers)
	}
	if s.Sensors > 0 {
		fmt.Fprintf(&b, "%d/%d sensors valid, ", s.ValidSensors, s.Sensors)
	}
	if s.Peers+s.Sensors == 0 {
		b.WriteString("no peers and no sensors configured\n")
	}
	switch {
	case s.Synced:
		fmt.Fprintf(&b, "clock synced, stratum %d\n", s.Stratum)
	case s.ClockOffset.Abs() > 500*time.Nanosecond:
		fmt.Fprintf(&b, "clock unsynced, clock offset is %.3fms\n", ms(s.ClockOffset))
	default:
		b.WriteString("clock unsynced\n")
	}
	if len(a.Peers) > 0 {
		b.WriteString("peer\nwt tl st next poll offset delay jitter\n")
	}
	for _, p := range a.Peers {
		star, stratum := "", "-"
		if p.SyncedTo {
			star = "* "
		}
		if p.Stratum > 0 {
			stratum = fmt.Sprint(p.Stratum)
		}
		fmt.Fprintf(&b, "%s\n%s%d %d %s %ds %ds ", p.Name, star, p.Weight, p.TrustLevel, stratum, p.Next/time.Second, p.Poll/time.Second)
		if p.Valid() {
			fmt.Fprintf(&b, "%.3fms %.3fms %.3fms\n", ms(p.Offset), ms(p.Delay), ms(p.Jitter))
		} else {
			b.WriteString("---- peer not valid ----\n")
		}
	}
	return b.String()
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// The parts are those of the whole, for many goroutines at a time.
func TestNTPDTogether(t *testing.T) {
	ntpdDaemons(t, "server 127.0.0.9\nserver 127.0.0.8 weight 3\n", func(t *testing.T, d *daemon, c *ntpd.Client) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := c.Status(d.ctx)
				if err != nil || s.Peers != 2 || s.Synced {
					t.Errorf("status %+v, %v", s, err)
				}
				peers, err := c.Peers(d.ctx)
				if err != nil || len(peers) != 2 || peers[0].Name != "127.0.0.9" || peers[0].Weight != 1 || peers[1].Weight != 3 {
					t.Errorf("peers %+v, %v", peers, err)
				}
				if sensors, err := c.Sensors(d.ctx); err != nil || len(sensors) != 0 {
					t.Errorf("sensors %+v, %v", sensors, err)
				}
			})
		}
		wg.Wait()
	})
}
