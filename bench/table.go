package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

func printMachine(w io.Writer, m machine) {
	fmt.Fprintf(w, "%s, %d cores, %s, %s, %s\n", m.CPU, m.Cores, m.Kernel, m.Go, m.Date)
}

// printCase prints one case as a table.
func printCase(w io.Writer, c benchCase, peers []peer, rep *report) {
	figures, ratios := rep.Cases[c.name], rep.Ratios[c.name]
	columns := []string{}
	for _, base := range []string{c.base, "c"} {
		if _, ok := figures[base]; ok {
			columns = append(columns, base)
		}
	}
	fmt.Fprintf(w, "\n%s: %s; %s per %s\n", c.name, c.what, c.unit, c.op)
	width := 0
	for _, p := range peers {
		width = max(width, len(p.name))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%-*s\tmedian\tmin\tmax\t", width, "peer")
	if c.fixed == 0 {
		fmt.Fprint(t, "cpu\t")
	}
	for _, base := range columns {
		fmt.Fprintf(t, "/ %s\t", base)
	}
	fmt.Fprintln(t)
	for _, p := range peers {
		m := figures[p.name]
		fmt.Fprintf(t, "%-*s\t%s\t%s\t%s\t", width, p.name, figure(m.Median), figure(m.Min), figure(m.Max))
		if c.fixed == 0 {
			fmt.Fprintf(t, "%s\t", figure(m.CPU))
		}
		for _, base := range columns {
			if p.name == base {
				fmt.Fprint(t, "1\t")
			} else {
				fmt.Fprintf(t, "%.2f\t", ratios[p.name+"/"+base])
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	if c.fixed > 0 {
		fmt.Fprintf(w, "(%d of them)\n", c.fixed)
	}
}

// printTargets prints what was reached and what was not.
func printTargets(w io.Writer, verdicts []verdict) {
	fmt.Fprintln(w, "\ntargets")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	missing := 0
	for _, v := range verdicts {
		if v.Value == nil {
			missing++
			continue
		}
		result := "not met"
		if *v.Met {
			result = "met"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Name, strconv.FormatFloat(*v.Value, 'g', -1, 64), v.Target, result)
	}
	t.Flush()
	if missing > 0 {
		fmt.Fprintf(w, "(%d not measured)\n", missing)
	}
}

// figure formats a number with about three digits.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}
