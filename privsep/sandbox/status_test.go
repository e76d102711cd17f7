package sandbox

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

var someStatus = Status{System: "linux/amd64", States: []State{
	{Mechanism: NoNewPrivs, Asked: true, InForce: true},
	{Mechanism: Seccomp, Asked: true, InForce: true, Detail: "71 calls, others EPERM"},
	{Mechanism: Landlock, Asked: true, InForce: true, Detail: "ABI 7, 1 rules", Missing: []string{"unix connect", "udp"}, Gaps: []string{"udp"}},
	{Mechanism: Capsicum, Asked: true, Detail: "made up"},
	{Mechanism: Unveil},
}}

func TestStatusString(t *testing.T) {
	want := "linux/amd64: no_new_privs; seccomp: 71 calls, others EPERM; " +
		"landlock: ABI 7, 1 rules, not known here: unix connect, udp, left open: udp; capsicum: none, made up; unveil: none"
	if got := someStatus.String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if m := someStatus.InForce(); m != NoNewPrivs|Seccomp|Landlock {
		t.Errorf("in force: %v", m)
	}
}

func TestStatusJSON(t *testing.T) {
	for _, s := range []Status{{}, {System: "x"}, someStatus} {
		text, err := json.Marshal(s)
		testutil.Must(t, err)
		var back Status
		testutil.Must(t, json.Unmarshal(text, &back))
		if !reflect.DeepEqual(s, back) {
			t.Errorf("%+v became %+v by %s", s, back, text)
		}
	}
}

func TestSatisfies(t *testing.T) {
	for _, row := range []struct {
		required Mechanism
		want     []string // parts of the error; none: satisfied
	}{
		{0, nil},
		{NoNewPrivs | Seccomp, nil},
		{Unveil, nil}, // nothing was asked of it
		{Landlock, []string{"left open: udp"}},
		{Capsicum | Seccomp, []string{"capsicum: none, made up"}},
		{Pledge, []string{"pledge: not known on linux/amd64"}},
		{Pledge | Landlock | Capsicum, []string{"pledge", "landlock", "capsicum"}},
	} {
		err := someStatus.Satisfies(row.required)
		if (err == nil) != (row.want == nil) {
			t.Errorf("%v: %v", row.required, err)
		}
		for _, part := range row.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v: %v, want %q", row.required, err, part)
			}
		}
	}
}

func TestMechanismText(t *testing.T) {
	for m, want := range map[Mechanism]string{
		0:                 "none",
		Pledge:            "pledge",
		Seccomp | Pledge:  "pledge|seccomp",
		Capsicum | Unveil: "unveil|capsicum",
	} {
		text, err := m.MarshalText()
		if string(text) != want || err != nil {
			t.Errorf("%d: %q, %v; want %q", uint(m), text, err, want)
		}
		var back Mechanism
		if err := back.UnmarshalText(text); back != m || err != nil {
			t.Errorf("%q: %v, %v", text, back, err)
		}
	}
	if s := Mechanism(1 << 20).String(); s != "bit 20" {
		t.Error(s)
	}
	if _, err := Mechanism(1 << 20).MarshalText(); err == nil {
		t.Error("an unknown bit was marshalled")
	}
	var m Mechanism
	if err := m.UnmarshalText([]byte("pledge|jail")); err == nil || !strings.Contains(err.Error(), `mechanism 2: unknown name "jail"`) {
		t.Error(err)
	}
}
