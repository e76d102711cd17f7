package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.org/imsg/proto/bgpd"
)

// A bgpdCollector asks bgpd.
type bgpdCollector struct {
	socket  string
	timeout time.Duration
}

// Describe sends nothing: which metrics there are is known when they are asked.
func (c *bgpdCollector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the daemon. bgpd_up, which bgpctl does not have, is 0 if it does
// not answer.
func (c *bgpdCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	s := sink{ch: ch}
	begin := time.Now()
	var neighbors []bgpd.Neighbor
	var memory bgpd.Memory
	client, err := bgpd.Dial(ctx, c.socket, nil)
	if err == nil {
		neighbors, err = client.Neighbors(ctx)
	}
	if err == nil {
		memory, err = client.Memory(ctx)
	}
	s.gauge("bgpd_up", "whether bgpd answers", truth(err == nil))
	if err != nil {
		log.Print(err) // says what may help
		return
	}
	s.gauge("bgpd_info", "bgpd information", 1, "release", client.Version())
	seen := map[string]bool{}
	for i := range neighbors {
		n := &neighbors[i]
		labels := prometheus.Labels{
			"remote_addr": n.Addr.String(), "remote_as": fmt.Sprint(n.RemoteAS), "description": strings.ToValidUTF8(n.Name(), "?"),
			"group": strings.ToValidUTF8(n.Group, "?"),
		}
		if key := fmt.Sprint(labels); !n.Template.IsValid() && !seen[key] { // a second one would make the page invalid
			seen[key] = true
			neighbor(s.with(labels), n, client.Version() >= "9.1")
		}
	}
	rde(s, &memory)
	s.gauge("bgpd_scrape_seconds", "bgpd scrape time in seconds", time.Since(begin).Seconds())
}

// neighbor sends the metrics of one neighbor; queues says that the daemon tells
// what waits for it.
func neighbor(s sink, n *bgpd.Neighbor, queues bool) {
	s.gauge("bgpd_peer_info", "peer information", 1)
	for state := range bgpd.Established + 1 {
		s.gauge("bgpd_peer_state", "peer session state", truth(n.State == state), "bgpd_peer_state", state.String())
	}
	s.gauge("bgpd_peer_state_raw", "peer session state raw int value", float64(n.State))
	age := func(name, help string, t time.Time) {
		if !t.IsZero() {
			s.gauge(name, help, float64(time.Since(t)/time.Second))
		}
	}
	age("bgpd_peer_last_change_seconds", "time in seconds since peer's last up/down state change", n.LastChange)
	if n.State == bgpd.Established {
		age("bgpd_peer_last_read_seconds", "peer time since last read in seconds", n.LastRead)
		age("bgpd_peer_last_write_seconds", "peer time since last write in seconds", n.LastWrite)
	}
	s.gauge("bgpd_peer_prefixes_transmit", "number of prefixes sent to peer", float64(n.Out.Prefixes))
	s.gauge("bgpd_peer_prefixes_receive", "number of prefixes received from peer", float64(n.In.Prefixes))
	s.counter("bgpd_peer_update_pending_total", "number of pending update prefixes", uint64(n.PendingUpdates))
	s.counter("bgpd_peer_withdraw_pending_total", "number of pending withdrawn prefixes", uint64(n.PendingRemoves))
	if queues {
		const objects, size = "bgpd_peer_queue_usage_objects", "bgpd_peer_queue_memory_usage_bytes"
		s.gauge(objects, "number of object on queue", float64(n.QueuedMessages), "type", "ibuf_queue")
		s.gauge(objects, "number of object on queue", float64(n.QueuedRoutes), "type", "rib_entry")
		s.gauge(size, "memory usage of queue in bytes", float64(n.QueuedBytes), "type", "ibuf_queue")
	}
	for _, way := range []struct {
		name, messages, updates, withdraws string
		m                                  *bgpd.Messages
	}{
		{"transmit", "per message type count of transmitted messages", "number of prefixes sent as update", "number of withdrawn prefixes sent to peer", &n.Out},
		{"receive", "per message type count of received messages", "number of prefixes received as update", "number of withdrawn prefixes received from peer", &n.In},
	} {
		for _, m := range []struct {
			kind string
			n    uint64
		}{
			{"open", way.m.Open}, {"notification", way.m.Notification}, {"update", way.m.Update}, {"keepalive", way.m.Keepalive},
			{"route_refresh", way.m.RouteRefresh},
		} {
			s.counter("bgpd_peer_message_"+way.name+"_total", way.messages, m.n, "messages", m.kind)
		}
		s.counter("bgpd_peer_update_"+way.name+"_total", way.updates, way.m.Updates)
		s.counter("bgpd_peer_withdraw_"+way.name+"_total", way.withdraws, way.m.Withdraws)
		s.counter("bgpd_peer_route_refresh_req_"+way.name+"_total", "number of route-refresh requests", way.m.RefreshRequest)
		s.counter("bgpd_peer_route_refresh_borr_"+way.name+"_total", "number of ext. route-refresh BORR messages", way.m.RefreshBeginOfRIB)
		s.counter("bgpd_peer_route_refresh_eorr_"+way.name+"_total", "number of ext. route-refresh EORR messages", way.m.RefreshEndOfRIB)
	}
}

// rde sends the metrics of the route decision engine.
func rde(s sink, m *bgpd.Memory) {
	entries := func(all []bgpd.Entry, count, size, references string) {
		for _, e := range all {
			s.gauge(count, "number of objects", float64(e.Count), "type", e.Name)
			if e.Size != bgpd.NotTold {
				s.gauge(size, "memory usage in bytes", float64(e.Size), "type", e.Name)
			}
			if e.References != bgpd.NotTold && references != "" {
				s.gauge(references, "number of references held", float64(e.References), "type", e.Name)
			}
		}
	}
	entries(m.Entries, "bgpd_rde_memory_usage_objects", "bgpd_rde_memory_usage_bytes", "bgpd_rde_memory_usage_references")
	entries(m.Sets, "bgpd_rde_set_usage_objects", "bgpd_rde_set_usage_bytes", "")
	entries(m.Queues, "bgpd_rde_queue_objects", "bgpd_rde_queue_bytes", "")
	s.gauge("bgpd_rde_set_usage_tables", "number of as_set tables", float64(m.Tables))
	if m.Times != nil {
		s.counter("bgpd_rde_evloop_total", "number of times the evloop ran", uint64(max(m.Loops, 0)))
	}
	for _, t := range m.Times {
		s.send(prometheus.CounterValue, "bgpd_rde_evloop_seconds_total", "RDE evloop time usage", t.Time.Seconds(), []string{"stage", t.Name})
	}
}
