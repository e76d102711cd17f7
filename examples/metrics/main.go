// Command metrics is a Prometheus exporter for OpenBGPD and OpenNTPD: it asks
// their control sockets at every scrape. The metrics of bgpd have the names that
// bgpctl show metric gives them.
//
//	go run . [-listen ADDRESS] [-bgpd SOCKET] [-ntpd SOCKET]
//	go run . -once -ntpd SOCKET
//
// bgpd's sizes of tables that it counts but does not tell are left out
// (bgpd_rde_memory_usage_bytes of rib, prefix and others).
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9961", "`address` to serve /metrics at")
	bgpd := flag.String("bgpd", "", "`path` of bgpd's socket, best a restricted one; empty: none")
	ntpd := flag.String("ntpd", "", "`path` of ntpd's socket; empty: none")
	timeout := flag.Duration("timeout", 5*time.Second, "longest `time` to wait for a daemon")
	once := flag.Bool("once", false, "print the metrics and exit")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "metrics: unexpected argument %q: sockets are named by -bgpd and -ntpd\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(*listen, *bgpd, *ntpd, *timeout, *once); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

func run(listen, bgpd, ntpd string, timeout time.Duration, once bool) error {
	r, err := registry(bgpd, ntpd, timeout)
	if err != nil {
		return err
	}
	if once {
		return print(r)
	}
	s := http.Server{Addr: listen, Handler: handler(r), ReadHeaderTimeout: timeout}
	return s.ListenAndServe()
}

// registry returns one that asks the daemons which have a socket.
func registry(bgpd, ntpd string, timeout time.Duration) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	if bgpd == "" && ntpd == "" {
		return nil, errors.New("no socket: -bgpd or -ntpd is wanted")
	}
	if bgpd != "" {
		r.MustRegister(&bgpdCollector{bgpd, timeout})
	}
	if ntpd != "" {
		r.MustRegister(&ntpdCollector{ntpd, timeout})
	}
	return r, nil
}

func handler(r *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return mux
}

// print writes the metrics to standard output.
func print(r *prometheus.Registry) error {
	families, err := r.Gather()
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(os.Stdout, f); err != nil {
			return err
		}
	}
	return err
}

// A sink takes the metrics of one scrape.
type sink struct {
	ch     chan<- prometheus.Metric
	labels prometheus.Labels // of all
}

// gauge sends a gauge; labels are pairs of name and value.
func (s sink) gauge(name, help string, v float64, labels ...string) {
	s.send(prometheus.GaugeValue, name, help, v, labels)
}

// counter sends a counter.
func (s sink) counter(name, help string, v uint64, labels ...string) {
	s.send(prometheus.CounterValue, name, help, float64(v), labels)
}

func (s sink) send(t prometheus.ValueType, name, help string, v float64, labels []string) {
	all := prometheus.Labels{}
	maps.Copy(all, s.labels)
	for i := 0; i+1 < len(labels); i += 2 {
		all[labels[i]] = labels[i+1]
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, nil, all), t, v)
	if err != nil { // a label that is no UTF-8, from a configuration
		m = prometheus.NewInvalidMetric(prometheus.NewDesc(name, help, nil, nil), err)
	}
	s.ch <- m
}

// with returns a sink whose metrics have more labels.
func (s sink) with(labels prometheus.Labels) sink { return sink{s.ch, labels} }
