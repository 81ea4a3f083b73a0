package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by release builds: go build -ldflags "-X main.version=1.2.3".
var version string

// build is what a binary says about itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild reads what the Go linker recorded in this binary.
func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version // "(devel)" outside a module version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and how this binary was built",
		Example: `  gatehouse version
  gatehouse version --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			switch output {
			case "json":
				return json.NewEncoder(p.out).Encode(b)
			case "text":
				revision := ""
				if b.Revision != "" {
					revision = " (" + b.Revision
					if b.Modified {
						revision += ", modified"
					}
					revision += ")"
				}
				_, err := fmt.Fprintf(p.out, "gatehouse %s%s %s %s\n", b.Version, revision, b.Go, b.Platform)
				return err
			}
			return outputError(output)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// outputFlag adds --output, which commands with a machine-readable form share.
func outputFlag(cmd *cobra.Command, output *string) { formatFlag(cmd, output, "text", "json") }

// formatFlag adds --output with the formats that a command has, the first by default.
func formatFlag(cmd *cobra.Command, output *string, formats ...string) {
	last := len(formats) - 1
	cmd.Flags().StringVarP(output, "output", "o", formats[0],
		"`format` of the output: "+strings.Join(formats[:last], ", ")+" or "+formats[last])
	// The flag exists, so that this cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func outputError(output string) error {
	return usagef("invalid --output %q: give text or json", output)
}
