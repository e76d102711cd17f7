package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

const filterHelp = `A filter is an expression over what a message has:

  type    number or name of its type           type == OPEN, type >= 0x10, type ~ ^CTL_
  name    name of its type, as a text          name ~ SHOW
  dir     in or out                            dir == in
  size    bytes, with the header's 16          size > 1000
  file    the file with it: there is one,      file, not file
          its path or kind                     file ~ /etc/, file == pipe, file == lost
  pid     of the sender, the receiver, or      pid == 1234
          the header
  id      of the header                        id != 0
  chan    number or socket of the channel      chan == 2, chan ~ bgpd

Operators are == != < <= > >= and ~, which looks for a regular expression;
comparisons are joined by and, or, not (&&, ||, !) and parentheses. Numbers can
be hexadecimal (0x10); texts with blanks or operators in them are quoted, as
"a b" or 'a b'.`

// newFilterTopic is no command, but something that help tells about.
func newFilterTopic() *cobra.Command {
	return &cobra.Command{
		Use: "filter", Short: "What -f understands", Long: filterHelp,
		Example: "  imsgctl decode -f 'type == OPEN and (size > 100 or file)' session.pcapng",
	}
}

// A filter is a condition that messages meet or do not. It is not safe for
// concurrent use.
type filter struct {
	match func(*capture.Record, *profile.Profile) bool
}

// A filterError has the column, in characters from 1, and shows it.
type filterError struct {
	expr   string
	column int
	text   string
}

func (e *filterError) Error() string {
	return fmt.Sprintf("filter, column %d: %s\n  %s\n  %s^", e.column, e.text, oneLine(e.expr), strings.Repeat(" ", e.column-1))
}

// oneLine keeps the columns.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// parseFilter compiles an expression. Names of types must be known to one of
// the profiles. The error is a *filterError.
func parseFilter(expr string, profiles *profile.Chooser) (f *filter, err error) {
	p := filterParser{expr: expr, profiles: profiles}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *filterError:
			err = e
		default:
			panic(e)
		}
	}()
	p.next()
	match := p.or()
	if p.token != "" || p.quoted {
		p.fail(p.at, "%q is not expected here", p.token)
	}
	return &filter{match}, nil
}

type condition = func(*capture.Record, *profile.Profile) bool

// A filterParser goes down the grammar: or, and, not, comparison. It panics
// with a *filterError.
type filterParser struct {
	expr     string
	profiles *profile.Chooser
	at, end  int    // of token
	token    string // "" at the end
	quoted   bool
}

func (p *filterParser) fail(at int, format string, args ...any) {
	panic(&filterError{p.expr, utf8.RuneCountInString(p.expr[:at]) + 1, fmt.Sprintf(format, args...)})
}

var filterOps = []string{"==", "!=", "<=", ">=", "&&", "||", "<", ">", "~", "!", "(", ")"}

// next reads a token.
func (p *filterParser) next() {
	rest := strings.TrimLeftFunc(p.expr[p.end:], unicode.IsSpace)
	p.at, p.quoted = len(p.expr)-len(rest), false
	n := 0
	switch {
	case rest == "":
	case rest[0] == '"' || rest[0] == '\'':
		n = strings.IndexByte(rest[1:], rest[0]) + 2
		if n < 2 {
			p.fail(p.at, "the quote is not closed")
		}
		p.token, p.end, p.quoted = rest[1:n-1], p.at+n, true
		return
	default:
		if i := slices.IndexFunc(filterOps, func(op string) bool { return strings.HasPrefix(rest, op) }); i >= 0 {
			n = len(filterOps[i])
			break
		}
		if n = strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("=!<>~&|()\"'", r) }); n < 0 {
			n = len(rest)
		} else if n == 0 {
			p.fail(p.at, "%q is no operator: == != < <= > >= ~ and or not", rest[:1])
		}
	}
	p.token, p.end = rest[:n], p.at+n
}

// take reads one of the words, if it is the next.
func (p *filterParser) take(words ...string) bool {
	if p.quoted || p.token == "" || !slices.Contains(words, p.token) {
		return false
	}
	p.next()
	return true
}

func (p *filterParser) or() condition {
	a := p.and()
	for p.take("or", "||") {
		x, y := a, p.and()
		a = func(r *capture.Record, pr *profile.Profile) bool { return x(r, pr) || y(r, pr) }
	}
	return a
}

func (p *filterParser) and() condition {
	a := p.not()
	for p.take("and", "&&") {
		x, y := a, p.not()
		a = func(r *capture.Record, pr *profile.Profile) bool { return x(r, pr) && y(r, pr) }
	}
	return a
}

func (p *filterParser) not() condition {
	if p.take("not", "!") {
		x := p.not()
		return func(r *capture.Record, pr *profile.Profile) bool { return !x(r, pr) }
	}
	at := p.at
	if p.take("(") {
		x := p.or()
		if !p.take(")") {
			p.fail(at, "the parenthesis is not closed")
		}
		return x
	}
	return p.comparison()
}

// Fields that are numbers, and that are texts; chan and type are both.
var (
	filterNumbers = map[string]func(*capture.Record) []int64{
		"type": func(r *capture.Record) []int64 { return []int64{int64(r.Header.Type)} },
		"size": func(r *capture.Record) []int64 { return []int64{int64(r.Len)} },
		"pid": func(r *capture.Record) []int64 {
			return []int64{int64(r.Header.PID), int64(r.From.PID), int64(r.To.PID)}
		},
		"id":   func(r *capture.Record) []int64 { return []int64{int64(r.Header.ID)} },
		"chan": func(r *capture.Record) []int64 { return []int64{int64(r.Channel)} },
	}
	filterTexts = map[string]func(*capture.Record, *profile.Profile) []string{
		"type": func(r *capture.Record, p *profile.Profile) []string { return []string{p.TypeText(r.Header.Type)} },
		"name": func(r *capture.Record, p *profile.Profile) []string { return []string{p.TypeText(r.Header.Type)} },
		"dir":  func(r *capture.Record, _ *profile.Profile) []string { return []string{dirNames[r.Dir]} },
		"file": fileTexts,
		"chan": func(r *capture.Record, _ *profile.Profile) []string { return []string{r.Name} },
	}
)

// fileTexts is what a file can be compared to.
func fileTexts(r *capture.Record, _ *profile.Profile) (texts []string) {
	for _, f := range r.Files {
		texts = append(texts, f.Path, f.Kind)
		if f.Lost {
			texts = append(texts, "lost")
		}
	}
	return texts
}

func (p *filterParser) comparison() condition {
	field, at := p.token, p.at
	number, text := filterNumbers[field], filterTexts[field]
	if number == nil && text == nil || p.quoted {
		if field == "" && !p.quoted {
			p.fail(at, "a field is missing: type, name, dir, size, file, pid, id or chan")
		}
		p.fail(at, "%q is no field: type, name, dir, size, file, pid, id or chan", field)
	}
	p.next()
	op, opAt := p.token, p.at
	if p.quoted || !slices.Contains([]string{"==", "!=", "<", "<=", ">", ">=", "~"}, op) {
		if field == "file" && !p.quoted {
			return func(r *capture.Record, _ *profile.Profile) bool { return r.Marked || len(r.Files) > 0 }
		}
		p.fail(opAt, "an operator must follow %s: == != < <= > >= or ~", field)
	}
	p.next()
	value, at := p.token, p.at
	if value == "" && !p.quoted || !p.quoted && slices.Contains(filterOps, value) {
		p.fail(at, "a value must follow %s", op)
	}
	n, numErr := strconv.ParseInt(value, 0, 64)
	isNumber := numErr == nil && !p.quoted && number != nil
	quoted := p.quoted
	p.next()
	switch {
	case op == "~":
		return p.search(field, value, at, opAt, text)
	case isNumber:
		return func(r *capture.Record, _ *profile.Profile) bool {
			return compare(op, number(r), n)
		}
	case field == "type" && !quoted:
		return p.typeName(op, value, at)
	case text == nil:
		p.fail(at, "%s is a number, and %q is not", field, value)
	case op != "==" && op != "!=":
		p.fail(opAt, "%s is a text: == != or ~", field)
	case field == "dir" && value != "in" && value != "out":
		p.fail(at, "dir is in or out")
	}
	return func(r *capture.Record, pr *profile.Profile) bool {
		return slices.Contains(text(r, pr), value) == (op == "==")
	}
}

func (p *filterParser) search(field, value string, at, opAt int, text func(*capture.Record, *profile.Profile) []string) condition {
	if text == nil {
		p.fail(opAt, "%s is a number: == != < <= > or >=", field)
	}
	re, err := regexp.Compile(value)
	if err != nil {
		p.fail(at, "%v", err)
	}
	return func(r *capture.Record, pr *profile.Profile) bool {
		return slices.ContainsFunc(text(r, pr), re.MatchString)
	}
}

// typeName compares with the number that the message's own profile has for a
// name.
func (p *filterParser) typeName(op, name string, at int) condition {
	if !p.profiles.HasType(name) {
		p.fail(at, "no profile has a type %q (imsgctl types lists them)", name)
	}
	var last *profile.Profile // n and ok are its answer
	n, ok := uint32(0), false
	return func(r *capture.Record, pr *profile.Profile) bool {
		if pr != last {
			last = pr
			n, ok = pr.TypeNumber(name)
		}
		if !ok {
			return op == "!="
		}
		return compare(op, []int64{int64(r.Header.Type)}, int64(n))
	}
}

// compare says whether one of the values compares so to n, and for != whether
// none is equal.
func compare(op string, values []int64, n int64) bool {
	switch op {
	case "==":
		return slices.Contains(values, n)
	case "!=":
		return !slices.Contains(values, n)
	}
	return slices.ContainsFunc(values, func(v int64) bool {
		switch op {
		case "<":
			return v < n
		case "<=":
			return v <= n
		case ">":
			return v > n
		}
		return v >= n
	})
}
