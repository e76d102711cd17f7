// Command instructions counts the processor's instructions that a message
// costs, with valgrind, and compares them with table.txt:
//
//	go run ./test/instructions       # status 1 if a count has grown
//	go run ./test/instructions -w    # writes the table anew
//	go run ./test/instructions -case send
//
// Unlike a time, a count is the same on a busy machine. It is of the process's
// own instructions, the runtime's included and the kernel's not, on amd64,
// without garbage collection: two runs of a case with different numbers of
// messages, the difference divided. What an instruction costs it does not tell:
// an atomic operation counts like any other.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

const (
	tableFile = "test/instructions/table.txt"
	caseEnv   = "IMSG_INSTRUCTIONS" // in a child: case and number of batches

	few, many = 10_000, 110_000 // messages

	// A count may grow by so much, and by so many: other processors take other
	// ways through the runtime's copying and clearing.
	tolerance, spare = 0.08, 6
)

func main() {
	if job := os.Getenv(caseEnv); job != "" {
		if err := work(job); err != nil {
			fmt.Fprintln(os.Stderr, "instructions:", err)
			os.Exit(1)
		}
		return
	}
	write := flag.Bool("w", false, "write "+tableFile)
	only := flag.String("case", "", "only cases that match `regexp`")
	flag.Parse()
	if err := run(*write, *only); err != nil {
		fmt.Fprintln(os.Stderr, "instructions:", err)
		os.Exit(1)
	}
}

func run(write bool, only string) error {
	if runtime.GOARCH != "amd64" {
		return errors.New("the table is for amd64")
	}
	selected, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	table, version, err := readTable()
	if err != nil && !write {
		return err
	}
	if now := minor(runtime.Version()); version != now && !write {
		fmt.Printf("no verdict: the table is for %s, this is %s; write it anew with -w\n", version, now)
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Instructions per message, by go run ./test/instructions -w, with %s.\n", runtime.Version())
	grown := 0
	for _, c := range cases {
		if !selected.MatchString(c.name) {
			continue
		}
		n, err := c.count()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(&text, "%-20s %5.0f  # %s\n", c.name, n, c.what)
		limit, ok := table[c.name]
		verdict := ""
		switch {
		case !ok:
			verdict = "not in the table"
			grown++
		case n > limit*(1+tolerance)+spare:
			verdict = "has grown"
			grown++
		case n < limit*(1-tolerance)-spare:
			verdict = "has shrunk: run with -w"
		}
		fmt.Printf("%-20s %5.0f  table %5.0f  %s\n", c.name, n, limit, verdict)
	}
	switch {
	case write && only == "":
		return os.WriteFile(tableFile, []byte(text.String()), 0o644)
	case grown > 0:
		return fmt.Errorf("%d counts are not what %s says", grown, tableFile)
	}
	return nil
}

// readTable returns the table's figures by case, and the Go version that they
// are for.
func readTable() (table map[string]float64, version string, err error) {
	data, err := os.ReadFile(tableFile)
	if err != nil {
		return nil, "", err
	}
	table = map[string]float64{}
	for line := range strings.Lines(string(data)) {
		line, remark, _ := strings.Cut(line, "#")
		if v := minor(remark); v != "" && version == "" {
			version = v
		}
		if f := strings.Fields(line); len(f) == 2 {
			if table[f[0]], err = strconv.ParseFloat(f[1], 64); err != nil {
				return nil, "", err
			}
		}
	}
	return table, version, nil
}

// minor returns the first version in s, such as go1.26: another one compiles to
// other instructions.
func minor(s string) string { return regexp.MustCompile(`go[0-9]+\.[0-9]+`).FindString(s) }

// count returns the instructions of one message.
func (c benchCase) count() (float64, error) {
	low, err := c.measure(few / c.batch)
	if err != nil {
		return 0, err
	}
	high, err := c.measure(many / c.batch)
	return float64(high-low) / float64(many-few), err
}

var refs = regexp.MustCompile(`I +refs: +([0-9,]+)`)

// measure runs this program under valgrind.
func (c benchCase) measure(batches int) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", caseEnv, c.name, batches),
		"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1") // nothing but the case
	out, err := cmd.CombinedOutput()
	found := refs.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, fmt.Errorf("valgrind: %w\n%s", err, out)
	}
	return strconv.Atoi(strings.ReplaceAll(string(found[1]), ",", ""))
}
