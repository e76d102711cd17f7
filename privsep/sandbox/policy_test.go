package sandbox

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

func TestCheck(t *testing.T) {
	ok := []Path{{"/tmp", "rwxc"}}
	for _, row := range []struct {
		policy Policy
		want   string // part of the error; "": none
	}{
		{Policy{}, ""},
		{Policy{Promises: "stdio"}, ""},
		{Policy{Promises: vocabulary}, ""},
		{Policy{Promises: "stdio  stdio "}, ""},
		{Policy{Promises: "stdio rpath", Paths: ok, Require: Landlock | Seccomp}, ""},
		{Policy{Promises: "stdio", Paths: []Path{}}, ""},
		{Policy{Paths: ok, Require: Landlock | Unveil | NoNewPrivs}, ""},
		{Policy{Promises: "stdio rpaths"}, `promise 2: unknown word "rpaths"`},
		{Policy{Promises: "stdio,rpath"}, `promise 1: unknown word "stdio,rpath"`},
		{Policy{Promises: "rpath wpath"}, `none of 2 promises is "stdio"`},
		{Policy{Promises: "  "}, "2 spaces and no word"},
		{Policy{Promises: "stdio inet", Ports: []Port{{179, "bc"}, {0, "b"}}}, ""},
		{Policy{Promises: "stdio inet", Ports: []Port{}}, ""},
		{Policy{Promises: "stdio", Ports: []Port{}}, `0 ports, but no promise "inet"`},
		{Policy{Promises: "stdio inet", Ports: []Port{{80, "b"}, {81, ""}}}, "port 2: 81: no permission"},
		{Policy{Promises: "stdio inet", Ports: []Port{{80, "r"}}}, `port 1: 80: permission 1 of "r" is none of b c`},
		{Policy{Promises: "stdio inet", Ports: []Port{{0, "bc"}}}, "port 1: nothing can connect to 0"},
		{Policy{Promises: "stdio audio"}, `promise 2: unknown word "audio"`},
		{Policy{Require: Native() | Seccomp}, "of a policy that restricts nothing"},
		{Policy{Paths: ok, Require: Seccomp | Landlock}, "seccomp required of a policy without promises"},
		{Policy{Paths: ok, Require: Pledge}, "pledge required of a policy without promises"},
		{Policy{Promises: "stdio inet", Paths: ok}, "1 paths, but no promise that uses a path"},
		{Policy{Promises: "stdio rpath", Paths: []Path{ok[0], {"etc", "r"}}}, `path 2: name "etc" is not absolute`},
		{Policy{Paths: []Path{{"", "r"}}}, `path 1: name "" is not absolute`},
		{Policy{Paths: []Path{{"/a\x00b", "r"}}}, "contains a NUL"},
		{Policy{Paths: []Path{{"/etc", ""}}}, "path 1: /etc: no permission"},
		{Policy{Paths: []Path{{"/etc", "rq"}}}, `/etc: permission 2 of "rq" is none of`},
		{Policy{Paths: []Path{{"/etc", "rwr"}}}, `/etc: permission 3 of "rwr" appears twice`},
	} {
		err := row.policy.Check()
		if row.want == "" && err != nil {
			t.Errorf("%+v: %v", row.policy, err)
		}
		if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: %v, want %q", row.policy, err, row.want)
		}
		if row.want != "" {
			if status, err2 := Enter(row.policy); err2 == nil || err2.Error() != err.Error() {
				t.Errorf("%+v: Enter: %v, %v; Check: %v", row.policy, status, err2, err)
			}
		}
	}
}

// TestZeroPolicy: it restricts nothing, so this very process may enter it.
func TestZeroPolicy(t *testing.T) {
	status, err := Enter(Policy{})
	if err != nil || status.InForce() != 0 || !strings.HasSuffix(status.String(), ": no restriction") {
		t.Errorf("%v, %v", status, err)
	}
}

// TestPolicyJSON: what tells nil from empty and zero from none has to survive.
func TestPolicyJSON(t *testing.T) {
	for _, p := range []Policy{
		{},
		{Promises: "stdio", Paths: []Path{}, Require: Seccomp | Landlock, Debug: true},
		{Promises: "stdio inet", Ports: []Port{}},
		{Promises: "stdio inet", Ports: []Port{{25, "c"}}},
		{Paths: []Path{{"/", "r"}}, Limits: Limits{OpenFiles: new(uint64(0))}, Debug: true},
		{Limits: Limits{FileSize: new(uint64(1 << 40))}},
	} {
		text, err := json.Marshal(p)
		testutil.Must(t, err)
		var back Policy
		testutil.Must(t, json.Unmarshal(text, &back))
		if !reflect.DeepEqual(p, back) {
			t.Errorf("%+v became %+v by %s", p, back, text)
		}
	}
}
