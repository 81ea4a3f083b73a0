package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes, the same for every command.
const (
	exitOK      = 0
	exitRefused = 1 // the configuration is broken, the request is refused, or something failed
	exitUsage   = 2 // the command line itself is wrong
)

// A program is where a command reads, writes and looks up its environment.
type program struct {
	in  io.Reader
	out io.Writer // what was asked for
	err io.Writer // everything else
	env func(name string) (string, bool)
}

// run executes one command line, without the program's name, and returns its exit code.
// A ctx that ends makes long-running commands stop in order.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errRefused) {
		return exitRefused
	}
	fmt.Fprintf(p.err, "%s: %v\n", cmd.CommandPath(), err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(p.err, "\nUsage:\n  %s\n\nRun '%s --help' for more.\n", cmd.UseLine(), cmd.CommandPath())
		return exitUsage
	}
	return exitRefused
}

// errRefused ends a command whose output has said already why it did not succeed.
var errRefused = errors.New("refused")

// A usageError is a command line that no command accepts.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "An external authorization service for Envoy",
		Long: `gatehouse answers Envoy's question "may this request pass?" from one configuration
file: who is calling (tokens, API keys, cookies, certificates) and who may call what
(a table of routes in which the most specific one wins).`,
		Example: `  # see it work, with a real Envoy in front
  gatehouse demo

  # check a configuration, ask it a question, run it
  gatehouse validate gatehouse.yaml
  gatehouse check --config gatehouse.yaml --path /orders/1 --principal tenant=acme,roles=reader
  gatehouse serve --config gatehouse.yaml`,
		Args:          noArgs,
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		// Without it cobra takes an unknown command for an argument and prints the help.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
	root.AddCommand(
		p.serveCommand(),
		p.demoCommand(),
		p.validateCommand(),
		p.checkCommand(),
		p.explainCommand(),
		p.routesCommand(),
		p.testCommand(),
		p.diffCommand(),
		p.replayCommand(),
		p.healthcheckCommand(),
		p.doctorCommand(),
		p.hashCommand(),
		p.tokensCommand(),
		p.usersCommand(),
		p.signCommand(),
		p.versionCommand(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("")
	finishBuiltins(root)
	return root
}

// finishBuiltins makes the commands that cobra adds like ours: completion has examples, and
// what they do not know is a usage error, where cobra prints the help and succeeds.
func finishBuiltins(root *cobra.Command) {
	load := map[string]string{
		"bash":       "  source <(gatehouse completion bash)",
		"zsh":        "  source <(gatehouse completion zsh)",
		"fish":       "  gatehouse completion fish | source",
		"powershell": "  gatehouse completion powershell | Out-String | Invoke-Expression",
	}
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err != nil {
					return &usageError{err}
				}
				return noArgs(found, rest)
			}
		case "completion":
			cmd.Args, cmd.Example = noArgs, load["bash"]
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args, shell.Example = noArgs, load[shell.Name()]
			}
		}
	}
}

// noArgs refuses arguments, and names the command that was probably meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usagef("unexpected argument %q", args[0])
	}
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		return usagef("unknown command %q; did you mean %q?", args[0], names[0])
	}
	return usagef("unknown command %q", args[0])
}

// oneArg asks for exactly one argument, which is called name in the error.
func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return usagef("%s is missing", name)
		default:
			return usagef("unexpected argument %q", args[1])
		}
	}
}

// flagError makes an error of flag parsing a usageError, with a suggestion for an
// unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return noArgs(cmd, args) // the flag is of a command that does not exist
	}
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &invalid) && errors.As(err, &number) { // the parser's words are for programmers
		kind := "a number"
		if number.Func == "ParseBool" {
			kind = "true or false"
		}
		return usagef("invalid --%s %q: give %s", invalid.GetFlag().Name, invalid.GetValue(), kind)
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err}
	}
	given := unknown.GetSpecifiedName()
	best, distance := "", 3 // further away is another word
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		d := editDistance(given, f.Name)
		if strings.HasPrefix(f.Name, given) && len(given) > 1 {
			d = 1
		}
		if d < distance && !f.Hidden {
			best, distance = f.Name, d
		}
	})
	if best == "" {
		return &usageError{err}
	}
	return usagef("%w; did you mean --%s?", err, best)
}

// editDistance counts the insertions, deletions and replacements that make a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
