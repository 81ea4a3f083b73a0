package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/serve"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// testOptions are the flags of test.
type testOptions struct {
	config      string
	junit       string
	coverage    bool
	minCoverage float64
	mutate      bool
	verbose     bool
}

func (p *program) testCommand() *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run files of decisions against a configuration, and say what they do not prove",
		Long: `Decides each request of the files by the gate that serve uses, and compares outcome,
reason, route and headers with what is written. Callers are principals, claims that the
configuration maps, or credentials in the request. A file is YAML, or a txtar archive
that holds such files and the configurations they name.

Coverage is which routes, requirements, values of any, all and none, and mappings of
claims no test exercises. A mutant is the policy with one mistake in it: a requirement
dropped, a path widened, any and all swapped; one that no test notices is reported.

Exits with 1 if a test fails, a mutant survives or the coverage is below the minimum.`,
		Example: `  gatehouse test tests/*.yaml
  gatehouse test --min-coverage 90 --junit report.xml tests/*.yaml
  gatehouse test --mutate tests/orders.yaml
  gatehouse test --config new.yaml tests/orders.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("the file of tests is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(o.minCoverage >= 0 && o.minCoverage <= 100) { // NaN is none
				return usagef("invalid --min-coverage %v: give a percentage from 0 to 100", o.minCoverage)
			}
			o.coverage = o.coverage || cmd.Flags().Changed("min-coverage")
			return p.test(cmd.Context(), &o, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.config, "config", "c", "", "the configuration `file`, in the place of those that the tests name")
	flags.StringVar(&o.junit, "junit", "", "write the results to a `file` in the form of JUnit")
	flags.BoolVar(&o.coverage, "coverage", false, "say what no test exercises")
	flags.Float64Var(&o.minCoverage, "min-coverage", 0, "the coverage below which the command fails, in `percent`")
	flags.BoolVar(&o.mutate, "mutate", false, "say which mistakes in the policy no test would notice")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "name the tests that pass as well")
	return cmd
}

// test runs files of tests and prints what came of them.
func (p *program) test(ctx context.Context, o *testOptions, files []string) error {
	var runs []*suite.Run
	var out, errs, junit bytes.Buffer
	broken, rename := false, func(text string) string { return text }
	defer func() {
		p.show(rename(out.String()))
		_, _ = io.WriteString(p.err, rename(errs.String()))
	}()
	for _, name := range files {
		opened, err := suite.Open(name)
		if err != nil {
			return err
		}
		defer opened.Close()
		before := rename
		rename = func(text string) string { return opened.Rename(before(text), name) }
		for _, source := range opened.Sources {
			run, err := p.runSuite(ctx, o, &errs, source)
			if errors.Is(err, errRefused) {
				broken = true
				continue
			}
			if err != nil {
				return err
			}
			defer run.Loaded.Close()
			runs = append(runs, run)
		}
	}
	failed := broken
	for _, run := range runs {
		run.Print(&out, o.verbose)
		failed = failed || run.Failed() > 0
	}
	if o.junit != "" {
		if err := suite.WriteJUnit(&junit, runs); err != nil {
			return fmt.Errorf("writing the JUnit report: %w", err)
		}
		if err := os.WriteFile(o.junit, []byte(rename(junit.String())), 0o644); err != nil {
			return fmt.Errorf("writing the JUnit report: %w", err)
		}
	}
	if broken {
		return errRefused
	}
	for _, group := range byConfiguration(runs) {
		failed = o.printProof(&out, &errs, group) || failed
	}
	if failed {
		return errRefused
	}
	return nil
}

// runSuite loads and runs one file. What is wrong with it or its configuration is
// printed, and the error then errRefused.
func (p *program) runSuite(ctx context.Context, o *testOptions, errs io.Writer, source suite.Source) (*suite.Run, error) {
	s, report := suite.Load(source, p.env)
	if s == nil {
		fmt.Fprint(errs, report)
		return nil, errRefused
	}
	if o.config != "" {
		s.Config = o.config
	}
	if s.Config == "" {
		return nil, usagef("%s names no configuration: add a line \"config: FILE\" or give --config", s.File)
	}
	loaded, loading := config.Load(s.Config, p.environment(s.Env), nil)
	if loaded == nil {
		fmt.Fprint(errs, loading)
		return nil, errRefused
	}
	if err := loaded.Improvise(); err != nil {
		loaded.Close()
		return nil, err
	}
	if s.HasCredentials(loaded.Gate) {
		loaded.Start()
		waiting, cancel := context.WithTimeout(ctx, keysTimeout)
		serve.WaitForKeys(waiting, loaded.Gate.Set)
		serve.WaitForStore(waiting, loaded.Store)
		loaded.WaitForSigningKeys(waiting)
		cancel()
	}
	run, report, err := s.Run(ctx, loaded, time.Now())
	switch {
	case err != nil:
		loaded.Close()
		return nil, err
	case run == nil:
		loaded.Close()
		fmt.Fprint(errs, report)
		return nil, errRefused
	}
	return run, nil
}

// environment is that of the process with what a file of tests adds.
func (p *program) environment(more map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if v, ok := more[name]; ok {
			return v, true
		}
		return p.env(name)
	}
}

// byConfiguration puts runs of one configuration file together, in order.
func byConfiguration(runs []*suite.Run) [][]*suite.Run {
	var groups [][]*suite.Run
	for _, run := range runs {
		i := slices.IndexFunc(groups, func(g []*suite.Run) bool { return g[0].Suite.Config == run.Suite.Config })
		if i < 0 {
			groups = append(groups, []*suite.Run{run})
		} else {
			groups[i] = append(groups[i], run)
		}
	}
	return groups
}

// printProof prints coverage and mutants of one configuration, and tells whether they
// are a reason to fail.
func (o *testOptions) printProof(out, errs io.Writer, runs []*suite.Run) (failed bool) {
	name := runs[0].Suite.Config
	if o.coverage {
		coverage := suite.NewCoverage(runs)
		coverage.Print(out, name)
		if coverage.Percent() < o.minCoverage {
			fmt.Fprintf(errs, "%s: the coverage is below %v %%\n", name, o.minCoverage)
			failed = true
		}
	}
	if !o.mutate {
		return failed
	}
	var failing []string
	for _, run := range runs {
		if run.Failed() > 0 {
			failing = append(failing, run.Suite.File)
		}
	}
	if len(failing) > 0 {
		fmt.Fprintf(errs, "%s: no mutants while tests fail (%s)\n", name, strings.Join(failing, ", "))
		return true
	}
	mutation := suite.Mutate(runs)
	mutation.Print(out, name)
	return failed || len(mutation.Survived) > 0
}
