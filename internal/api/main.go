// Api keeps a listing of the exported names of every public package of this
// module in the folder api, so that none of them changes unseen. A package is
// public unless it is a command, an example, internal, or exports nothing.
//
//	go run ./internal/api          # write the listing
//	go run ./internal/api -check   # exit status 1 and a diff if it is out of date
//
// The API is the same on every system: it is read as for one of each kind, and
// a difference between them is an error.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// systems are looked at: one with files of its own for nearly everything, a
// BSD that is a 32-bit machine, and one without atomic close-on-exec.
var systems = [...]string{"linux/amd64", "openbsd/386", "darwin/arm64"}

func main() {
	check := flag.Bool("check", false, "compare the listing instead of writing it")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	err := run(*check, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(check bool, out io.Writer) error {
	gomod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return err
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	now, err := current(root, out)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "api")
	if check {
		return compare(dir, now, out)
	}
	return write(dir, now, out)
}

// current returns the listings of the module as it is, by file name.
func current(root string, out io.Writer) (map[string][]string, error) {
	var first map[string][]string
	for _, s := range systems {
		now, err := module(root, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		if first == nil {
			first = now
		} else if diff(out, systems[0], first, s, now) {
			return nil, fmt.Errorf("the API on %s differs from that on %s", s, systems[0])
		}
	}
	return first, nil
}

// stored reads the listings in dir.
func stored(dir string) (map[string][]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	all := map[string][]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all[filepath.Base(name)] = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	return all, err
}

func compare(dir string, now map[string][]string, out io.Writer) error {
	old, err := stored(dir)
	if err != nil {
		return err
	}
	if diff(out, "api", old, "code", now) {
		return fmt.Errorf("the exported API is not what api/ lists; if that is intended: go run ./internal/api")
	}
	return nil
}

func write(dir string, now map[string][]string, out io.Writer) error {
	old, err := stored(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	diff(out, "before", old, "now", now)
	for name := range old {
		if now[name] == nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name, lines := range now {
		text := strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			return err
		}
	}
	return nil
}
