package main

import (
	"context"
	"log"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.org/imsg/proto/ntpd"
)

// An ntpdCollector asks ntpd.
type ntpdCollector struct {
	socket  string
	timeout time.Duration
}

// Describe sends nothing: which metrics there are is known when they are asked.
func (c *ntpdCollector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the daemon. openntpd_up is 0 if it does not answer.
func (c *ntpdCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	s := sink{ch: ch}
	var all ntpd.All
	client, err := ntpd.Dial(ctx, c.socket, nil)
	if err == nil {
		all, err = client.All(ctx)
	}
	s.gauge("openntpd_up", "Whether ntpd answers.", truth(err == nil))
	if err != nil {
		log.Print(err) // says what may help
		return
	}
	st := all.Status
	s.gauge("openntpd_synced", "Whether the clock is synced.", truth(st.Synced))
	s.gauge("openntpd_stratum", "Stratum of the clock.", float64(st.Stratum))
	s.gauge("openntpd_clock_offset_seconds", "Offset of the clock while it is not synced.", st.ClockOffset.Seconds())
	s.gauge("openntpd_peers", "Configured peers.", float64(st.Peers))
	s.gauge("openntpd_valid_peers", "Peers with answers that count.", float64(st.ValidPeers))
	s.gauge("openntpd_sensors", "Configured sensors.", float64(st.Sensors))
	s.gauge("openntpd_valid_sensors", "Sensors with values that count.", float64(st.ValidSensors))
	s.gauge("openntpd_constraint_errors", "Constraints that failed.", float64(st.ConstraintErrors))
	if d, ok := st.ConstraintOffset(); ok {
		s.gauge("openntpd_constraint_offset_seconds", "How far the constraints are ahead of the clock.", d.Seconds())
	}
	seen := map[string]bool{}
	for _, p := range all.Peers {
		name := strings.ToValidUTF8(p.Name, "?")
		if seen[name] { // a second one would make the page invalid
			continue
		}
		seen[name] = true
		s := s.with(prometheus.Labels{"peer": name})
		s.gauge("openntpd_peer_synced_to", "Whether the clock follows the peer.", truth(p.SyncedTo))
		s.gauge("openntpd_peer_valid", "Whether the peer's answers count.", truth(p.Valid()))
		s.gauge("openntpd_peer_weight", "Configured weight.", float64(p.Weight))
		s.gauge("openntpd_peer_trust_level", "Trust level, from 0 to 10.", float64(p.TrustLevel))
		s.gauge("openntpd_peer_stratum", "Stratum of the peer; 0: it has not answered.", float64(p.Stratum))
		s.gauge("openntpd_peer_next_seconds", "Time until the next query.", p.Next.Seconds())
		s.gauge("openntpd_peer_poll_seconds", "Time between queries.", p.Poll.Seconds())
		if p.Valid() {
			s.gauge("openntpd_peer_offset_seconds", "Mean offset of the peer's clock.", p.Offset.Seconds())
			s.gauge("openntpd_peer_delay_seconds", "Mean delay of answers.", p.Delay.Seconds())
			s.gauge("openntpd_peer_jitter_seconds", "Variation of the delay.", p.Jitter.Seconds())
		}
	}
	clear(seen)
	for _, x := range all.Sensors {
		name := strings.ToValidUTF8(x.Name, "?")
		if seen[name] {
			continue
		}
		seen[name] = true
		s := s.with(prometheus.Labels{"sensor": name})
		s.gauge("openntpd_sensor_synced_to", "Whether the clock follows the sensor.", truth(x.SyncedTo))
		s.gauge("openntpd_sensor_valid", "Whether the sensor's values count.", truth(x.Good))
		if x.Good {
			s.gauge("openntpd_sensor_offset_seconds", "Offset of the sensor's time.", x.Offset.Seconds())
			s.gauge("openntpd_sensor_correction_seconds", "Configured correction.", x.Correction.Seconds())
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
