package privsep

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"example.org/imsg"
)

// newLogHandler sends the records to the parent, each as a line of JSON.
func newLogHandler(ctl *imsg.Conn, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(logWriter{ctl}, &slog.HandlerOptions{Level: level})
}

type logWriter struct{ ctl *imsg.Conn }

func (w logWriter) Write(line []byte) (int, error) {
	data := line
	if len(data) > maxPayload {
		data = fmt.Appendf(nil, `{"time":%q,"level":"WARN","msg":"a record of %d bytes is too long"}`, time.Now().Format(time.RFC3339Nano), len(line))
	}
	if err := w.ctl.Send(context.Background(), imsg.Header{Type: ctlLog}, nil, data); err != nil {
		return 0, err
	}
	return len(line), nil
}

// relay hands a record of a child to the parent's logger, with its origin, the
// present time, and nothing that cannot be printed. The error is the child's; that the parent cannot write its log is not.
func relay(to *slog.Logger, from peerName, pid int, line []byte) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	attrs, err := readGroup(d, 0)
	if err != nil {
		return fmt.Errorf("%w: a log record: %w", ErrProtocol, err)
	}
	rec := slog.Record{Time: time.Now()}
	said := make([]slog.Attr, 0, len(attrs))
	taken := map[string]bool{"role": true, "instance": true, "pid": true}
	for _, a := range attrs {
		text := a.Value.String()
		switch name := a.Key; {
		case taken[name]: // the origin cannot be covered
			a.Key += "_"
			said = append(said, a)
		case name == slog.TimeKey: // is the parent's
		case name == slog.LevelKey:
			err = rec.Level.UnmarshalText([]byte(text))
		case name == slog.MessageKey:
			rec.Message = text
		default:
			said = append(said, a)
		}
		if err != nil {
			return fmt.Errorf("%w: a log record: %w", ErrProtocol, err)
		}
		taken[a.Key] = true
	}
	rec.AddAttrs(slog.String("role", from.Role), slog.Int("instance", from.Instance), slog.Int("pid", pid))
	rec.AddAttrs(said...)
	if h := to.Handler(); h.Enabled(context.Background(), rec.Level) {
		_ = h.Handle(context.Background(), rec)
	}
	return nil
}

const maxDepth = 16

// readGroup reads an object as attributes, in its order.
func readGroup(d *json.Decoder, depth int) ([]slog.Attr, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') || depth > maxDepth {
		return nil, fmt.Errorf("no object, or more than %d one in the other", maxDepth)
	}
	return readAttrs(d, depth)
}

func readAttrs(d *json.Decoder, depth int) ([]slog.Attr, error) {
	var attrs []slog.Attr
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		v, err := readValue(d, depth)
		if err != nil {
			return nil, err
		}
		if key = printable(key); key == "" { // with which a group would not be one
			key = "_"
		}
		attrs = append(attrs, slog.Attr{Key: key, Value: v})
	}
	_, err := d.Token()
	return attrs, err
}

func readValue(d *json.Decoder, depth int) (slog.Value, error) {
	t, err := d.Token()
	if err != nil {
		return slog.Value{}, err
	}
	switch v := t.(type) {
	case json.Delim:
		if depth >= maxDepth {
			return slog.Value{}, errors.New("too deep")
		}
		if v == '[' {
			var list []any
			for d.More() {
				e, err := readValue(d, depth+1)
				if err != nil {
					return slog.Value{}, err
				}
				list = append(list, e.Any())
			}
			_, err := d.Token()
			return slog.AnyValue(list), err
		}
		attrs, err := readAttrs(d, depth+1)
		return slog.GroupValue(attrs...), err
	case json.Number:
		return numberValue(v.String()), nil
	case string:
		return slog.StringValue(printable(v)), nil
	default:
		return slog.AnyValue(v), nil
	}
}

// numberValue keeps integers exact.
func numberValue(text string) slog.Value {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return slog.Int64Value(i)
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return slog.Uint64Value(u)
	}
	f, _ := strconv.ParseFloat(text, 64)
	return slog.Float64Value(f)
}

// lowest is the level from which on a logger wants records.
func lowest(l *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if l.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelError
}

// maxLine is the longest line of a child's output that is one record.
const maxLine = 4096

// logOutput logs what a child writes to its standard output and error, such as a
// traceback, line by line.
func logOutput(log *slog.Logger, out *os.File) {
	defer out.Close()
	r := bufio.NewReaderSize(out, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if text := printable(string(line)); text != "" {
			log.Info(text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
