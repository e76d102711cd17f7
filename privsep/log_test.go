package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/peer"
)

// logged are what a child can log, by name.
var logged = map[string]func(*slog.Logger){
	"debug":   func(l *slog.Logger) { l.Debug("small") },
	"info":    func(l *slog.Logger) { l.Info("normal", "key", "value", "n", 7, "yes", true, "none", nil) },
	"warn":    func(l *slog.Logger) { l.Warn("look") },
	"error":   func(l *slog.Logger) { l.Error("bad", "err", errors.New("no way")) },
	"between": func(l *slog.Logger) { l.Log(context.Background(), slog.LevelWarn+2, "between") },
	"groups": func(l *slog.Logger) {
		l.With("first", 1).WithGroup("g").With("in", 2).Info("grouped", slog.Group("h", "deep", []int{1, 2}), "last", "x")
	},
	"control": func(l *slog.Logger) { l.Info("two\nlines\x1b[2J", "k\n", "v\"\n") },
	"big": func(l *slog.Logger) {
		l.Info("numbers", "max", uint64(math.MaxUint64), "odd", int64(1<<53+1), "half", 0.5)
	},
	"forged":  func(l *slog.Logger) { l.Info("forged", "role", "parent", "pid", 1, "instance", 9) },
	"long":    func(l *slog.Logger) { l.Info(strings.Repeat("x", maxPayload)) },
	"longest": func(l *slog.Logger) { l.Info(strings.Repeat("x", maxPayload-100)) },
	"default": func(*slog.Logger) { slog.Info("by default") },
	"time":    func(l *slog.Logger) { l.Info("time", "took", 3*time.Second, "at", time.Unix(0, 0).UTC()) },
}

func init() {
	acts["log"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		logged[args[0]](w.p.Logger())
		return nil, nil
	}
}

// record returns the record that a child makes, as the parent's log has it.
func record(t *testing.T, r *running, log lines, name string) map[string]any {
	t.Helper()
	ask[any](t, r.Peer("b"), "log", name)
	// The record and the answer took different channels.
	var rec map[string]any
	select {
	case line := <-log:
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&rec); err != nil {
			t.Fatalf("%s: %v: %s", name, err, line)
		}
	case <-time.After(limit):
		t.Fatalf("%s: no record after %v", name, limit)
	}
	return rec
}

// TestLog: a child's records are in the parent's log as they were made, with who
// made them.
func TestLog(t *testing.T) {
	log := make(lines, 100)
	r := up(t, pairDaemon, func(d *Daemon) { d.Logger = log.logger() })
	pid := fmt.Sprint(r.status("b", 0).PID)
	for name, want := range map[string]map[string]any{
		"debug":   {"level": "DEBUG", "msg": "small"},
		"info":    {"level": "INFO", "msg": "normal", "key": "value", "n": json.Number("7"), "yes": true, "none": nil},
		"warn":    {"level": "WARN", "msg": "look"},
		"error":   {"level": "ERROR", "msg": "bad", "err": "no way"},
		"between": {"level": "WARN+2", "msg": "between"},
		"groups": {"level": "INFO", "msg": "grouped", "first": json.Number("1"), "g": map[string]any{
			"in": json.Number("2"), "h": map[string]any{"deep": []any{json.Number("1"), json.Number("2")}}, "last": "x"}},
		"control": {"level": "INFO", "msg": "two lines [2J", "k ": "v\" "},
		"big":     {"level": "INFO", "msg": "numbers", "max": json.Number("18446744073709551615"), "odd": json.Number("9007199254740993"), "half": json.Number("0.5")},
		"longest": {"level": "INFO", "msg": strings.Repeat("x", maxPayload-100)},
		"default": {"level": "INFO", "msg": "by default"},
		"time":    {"level": "INFO", "msg": "time", "took": json.Number("3000000000"), "at": "1970-01-01T00:00:00Z"},
	} {
		rec := record(t, r, log, name)
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(rec["time"]))
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("%s: time %v, %v", name, rec["time"], err)
		}
		delete(rec, "time")
		want = maps.Clone(want)
		want["role"], want["instance"], want["pid"] = "b", json.Number("0"), json.Number(pid)
		if !reflect.DeepEqual(rec, want) {
			t.Errorf("%s: %v\ninstead of %v", name, rec, want)
		}
	}
	if rec := record(t, r, log, "long"); rec["level"] != "WARN" || !strings.Contains(fmt.Sprint(rec["msg"]), "is too long") || rec["role"] != "b" {
		t.Errorf("too long: %v", rec)
	}
	// What the child says of its origin comes after what the parent says.
	ask[any](t, r.Peer("b"), "log", "forged")
	line := log.wait(t, "forged")
	if i, j := strings.Index(line, `"role":"b"`), strings.Index(line, `"role":"parent"`); i < 0 || j >= 0 && j < i {
		t.Errorf("forged: %s", line)
	}
}

// TestLogLevel: what the parent's log does not want is not sent.
func TestLogLevel(t *testing.T) {
	log := make(lines, 100)
	r := up(t, pairDaemon, func(d *Daemon) {
		d.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	for _, name := range []string{"debug", "info", "between", "error"} {
		ask[any](t, r.Peer("b"), "log", name)
	}
	for _, want := range []string{"level=WARN+2 msg=between role=b", "level=ERROR msg=bad role=b"} {
		select {
		case line := <-log:
			if !strings.Contains(line, want) {
				t.Errorf("%q instead of %q", line, want)
			}
		case <-time.After(limit):
			t.Fatalf("no record %q after %v", want, limit)
		}
	}
	for level, want := range map[slog.Level]slog.Level{-4: -4, 0: 0, 4: 4, 8: 8} {
		if got := lowest(slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level}))); got != want {
			t.Errorf("the lowest level of a log from %v on is %v instead of %v", level, got, want)
		}
	}
}

// TestLastRecords: those that a child makes before it dies are in the log.
func TestLastRecords(t *testing.T) {
	r := up(t, restartDaemon, patient, func(d *Daemon) { d.Roles[0].OnExit = Ignore })
	q := r.Peer("mortal")
	ask[any](t, q, "log", "info")
	tell(t, q, "log", "warn")
	tell(t, q, "exit", "0")
	<-q.Done()
	if err := r.end(); err != nil {
		t.Error(err)
	}
	for _, text := range []string{`"msg":"normal"`, `"msg":"look"`} {
		if !strings.Contains(r.log.String(), text) {
			t.Errorf("no record %s in\n%s", text, r.log)
		}
	}
}

// TestTrace: the channels of the roles that IMSG_TRACE lists are traced, into the log.
func TestTrace(t *testing.T) {
	t.Setenv(imsg.TraceVar, "b,c")
	log := make(lines, 1000)
	r := up(t, pairDaemon, func(d *Daemon) { d.Logger = log.logger() })
	ask[any](t, r.Peer("a"), "hello")
	ask[any](t, r.Peer("b"), "hello")
	if line := log.wait(t, "imsg["); !strings.Contains(line, `"role":"b"`) {
		t.Errorf("traced: %s", line)
	}
}

func init() {
	acts["enabled"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		var level slog.Level
		err := level.UnmarshalText([]byte(args[0]))
		return w.p.Logger().Enabled(w.ctx, level), err
	}
}

// TestSetLogLevel: the level reaches those that run, and those that are started later.
func TestSetLogLevel(t *testing.T) {
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log := make(lines, 1000)
	r := up(t, restartDaemon, patient, func(d *Daemon) {
		d.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: &level}))
		prepare := d.Prepare
		d.Prepare = func(ctx context.Context, p *Proc) error {
			p.SetLogLevel(slog.LevelError)
			if prepare != nil {
				return prepare(ctx, p)
			}
			return nil
		}
	})
	enabled := func(q *peer.Peer, level string) bool { return ask[bool](t, q, "enabled", level) }
	for _, role := range []string{"mortal", "steady"} {
		if enabled(r.Peer(role), "WARN") || !enabled(r.Peer(role), "ERROR") {
			t.Errorf("%s does not have the level that Prepare has set", role)
		}
	}
	level.Set(slog.LevelDebug)
	r.SetLogLevel(slog.LevelDebug)
	for _, role := range []string{"mortal", "steady", "caged"} {
		until(t, "new level in "+role, func() bool { return enabled(r.Peer(role), "DEBUG") })
	}
	ask[any](t, r.Peer("steady"), "log", "debug")
	log.wait(t, `"msg":"small"`)
	old := r.Peer("mortal")
	tell(t, old, "kill")
	if q := r.next("mortal", 0, old); !enabled(q, "DEBUG") {
		t.Error("one that was started again has the old level")
	}
	r.SetLogLevel(slog.LevelError)
	until(t, "level as before", func() bool { return !enabled(r.Peer("steady"), "WARN") })
}

// TestRelayedRecord: what a child says of the time does not count, and an attribute
// without a name is no way to the records' own.
func TestRelayedRecord(t *testing.T) {
	for _, c := range []struct{ line, key, want string }{
		{`{"time":"1999-12-31T23:59:59Z","level":"INFO","msg":"m"}`, "msg", "m"},
		{`{"time":"9999-12-31T23:59:59Z","level":"INFO","msg":"m"}`, "msg", "m"},
		{`{"time":"yesterday","level":"INFO","msg":"m"}`, "msg", "m"},
		{`{"time":5,"level":"INFO","msg":"m"}`, "msg", "m"},
		{`{"time":{"":{"time":"9999"}},"level":"INFO","msg":"m"}`, "msg", "m"},
		{`{"msg":"m","level":"INFO","time":"1999-12-31T23:59:59Z","time":"2000-01-01T00:00:00Z"}`, "msg", "m"},
		{`{"level":"INFO","msg":"m","":{"role":"parent","instance":9,"pid":1,"time":"x","msg":"y"}}`, "_", "map[instance:9 msg:y pid:1 role:parent time:x]"},
		{`{"level":"INFO","msg":"m","g":{"":{"":"x"}}}`, "g", "map[_:map[_:x]]"},
		{`{"level":"INFO","msg":"m","\u0000\n":"x"}`, "  ", "x"},
	} {
		var log records
		before := time.Now()
		if err := relay(log.logger(slog.LevelDebug), peerName{"b", 3}, 77, []byte(c.line)); err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		var rec map[string]any
		if err := json.Unmarshal([]byte(log.String()), &rec); err != nil {
			t.Fatalf("%s: %v: %s", c.line, err, &log)
		}
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(rec["time"]))
		if err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%s: the time is %v", c.line, rec["time"])
		}
		if rec["role"] != "b" || rec["instance"] != 3.0 || rec["pid"] != 77.0 || rec["msg"] != "m" || fmt.Sprint(rec[c.key]) != c.want {
			t.Errorf("%s became %s", c.line, &log)
		}
	}
}
