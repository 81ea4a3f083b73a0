// Command bench measures what one Check costs gatehouse, beside a gRPC server that
// does nothing.
//
// Both servers run in processes of their own and get the same load in turns, so that
// what the machine does meanwhile hits both. The measure is CPU time per Check, read
// from /proc, as a ratio to the do-nothing server of the same round; the table gives
// minimum, median and maximum over the rounds. Linux only.
//
// It also measures how much memory stays resident and how long starting takes, by the
// number of routes and tokens; what asking adds to the latency of a request through the
// real Envoy; and how many Checks are still answered well when twice as many come as one
// core can answer.
//
// Run it with `make bench`, or `go run ./test/bench -help`.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// servers are those of this binary, by the argument that starts them.
var servers = map[string]func(address string) error{"floor": serveFloor, "bare": serveBare}

func main() {
	if serve := servers[os.Args[min(1, len(os.Args)-1)]]; serve != nil && len(os.Args) == 3 {
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var opts options
	flag.IntVar(&opts.rounds, "rounds", 5, "interleaved rounds; the table shows their median")
	flag.IntVar(&opts.calls, "calls", 40_000, "Checks per server and round")
	flag.IntVar(&opts.concurrency, "concurrency", 16, "Checks in flight")
	flag.IntVar(&opts.connections, "connections", 2, "gRPC connections, as many as Envoy has workers")
	flag.StringVar(&opts.only, "only", "", "run only scenarios whose name holds this text")
	flag.StringVar(&opts.json, "json", "", "also write the figures to this file")
	flag.StringVar(&opts.profile, "profile", "", "`cpu`: leave a pprof file per scenario in bench/, and the heap of each size")
	flag.BoolVar(&opts.plain, "plain", false, "measure gatehouse with --plain, the slow reference path")
	flag.StringVar(&opts.transport, "transport", "", "measure gatehouse with this --transport")
	flag.Parse()
	if flag.NArg() > 0 || opts.rounds < 1 || opts.calls < 1 || opts.concurrency < 1 || opts.connections < 1 || opts.profile != "" && opts.profile != "cpu" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds, calls, concurrency, connections int
	only, json, profile, transport          string
	plain                                   bool
}

// Figures are what came of one scenario.
type Figures struct {
	Scenario    string    `json:"scenario"`
	Target      float64   `json:"target"`             // the ratio to stay under
	Floor       []float64 `json:"floor_us"`           // CPU per Check of the do-nothing server, by round
	Gatehouse   []float64 `json:"gatehouse_us"`       // CPU per Check of gatehouse, by round
	Ratio       []float64 `json:"ratio"`              // of the two, by round
	Allocated   []float64 `json:"allocated"`          // bytes per Check of gatehouse, by round
	Alone       []float64 `json:"alone_us,omitempty"` // the verification, by round
	ResidentMiB float64   `json:"resident_mib"`
	StartMillis float64   `json:"start_ms"` // from exec to the first correct Check
}

func run(ctx context.Context, opts options) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "building gatehouse and making tokens…")
	lab, err := newLab(dir, opts)
	if err != nil {
		return err
	}
	defer lab.close()
	var r Report
	for _, s := range scenarios() {
		if !strings.Contains(s.name, opts.only) {
			continue
		}
		f, err := lab.measure(ctx, s)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", s.name, err)
		}
		r.Checks = append(r.Checks, f)
		fmt.Fprintf(os.Stderr, "%-40s ratio %.2f, target %.2f\n", s.name, median(f.Ratio), f.Target)
	}
	for _, z := range sizes() {
		if strings.Contains(z.String(), opts.only) {
			fmt.Fprintf(os.Stderr, "starting with %d routes, and sending %d tokens…\n", z.routes, z.tokens)
			m, err := lab.memory(ctx, z)
			if err != nil {
				return fmt.Errorf("measuring memory with %d routes: %w", z.routes, err)
			}
			r.Memory = append(r.Memory, m)
		}
	}
	if strings.Contains("latency through Envoy", opts.only) {
		fmt.Fprintln(os.Stderr, "asking through Envoy…")
		if r.Latencies, err = lab.throughEnvoy(ctx); err != nil {
			return fmt.Errorf("measuring latency through Envoy: %w", err)
		}
	}
	for _, s := range overloads() {
		if !strings.Contains(s.name, opts.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: making credentials, and saturating gatehouse…\n", s.name)
		o, err := lab.overload(ctx, s)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", s.name, err)
		}
		r.Overloads = append(r.Overloads, o)
	}
	r.print()
	if opts.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(opts.json, append(text, '\n'), 0o644)
}

// A Report is all that was measured.
type Report struct {
	Checks    []Figures  `json:"checks,omitempty"`
	Memory    []Memory   `json:"memory,omitempty"`
	Latencies []Latency  `json:"through_envoy,omitempty"`
	Overloads []Overload `json:"overload,omitempty"`
}

func (r *Report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	if len(r.Checks) > 0 {
		fmt.Fprintln(w, "work\tfloor µs\tgatehouse µs\tratio min\tmedian\tmax\ttarget\tmet\tbytes\tMiB\tstart ms")
	}
	for _, f := range r.Checks {
		met := "yes"
		if median(f.Ratio) > f.Target {
			met = "no"
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%.0f\t%.0f\t%.0f\n", f.Scenario, median(f.Floor), median(f.Gatehouse),
			slices.Min(f.Ratio), median(f.Ratio), slices.Max(f.Ratio), f.Target, met, median(f.Allocated), f.ResidentMiB, f.StartMillis)
	}
	w.Flush() // columns of one table only
	if len(r.Memory) > 0 {
		fmt.Fprintln(w, "\nroutes\ttokens\tstart ms min\tmedian\tmax\tat most\tloading MiB\trest MiB\tload MiB\theap\tbinary\tat most")
	}
	for _, m := range r.Memory {
		fmt.Fprintf(w, "%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\n", m.Routes, m.Tokens, slices.Min(m.StartMillis), median(m.StartMillis),
			slices.Max(m.StartMillis), m.LimitMillis, m.Peak, m.Rest.MiB, m.Load.MiB, m.Load.AnonMiB, m.Load.FileMiB, m.LimitMiB)
	}
	w.Flush()
	if len(r.Latencies) > 0 {
		fmt.Fprintln(w, "\nEnvoy asks\tp50 µs\tp99 µs\tadded p50\tadded p99")
	}
	for _, l := range r.Latencies {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.0f\n", l.Filter, l.P50Micros, l.P99Micros, l.AddedP50, l.AddedP99)
	}
	w.Flush()
	for _, o := range r.Overloads {
		fmt.Fprintf(w, "\n%s: peak %.0f/s; of %.0f/s offered %.0f/s were good: %.2f of the peak (p50 %.1f ms, p99 %.1f ms); %d refused, %d late, %d RPC errors, %d wrong\n",
			o.Scenario, o.PeakPerSecond, o.OfferedPerSecond, o.GoodPerSecond, o.Goodput, o.P50Millis, o.P99Millis, o.Refused, o.Late, o.Errors, o.Wrong)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func micros(d time.Duration, calls int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(calls)
}
