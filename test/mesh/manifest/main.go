// Command manifest reads Kubernetes manifests as an API server would: the types of
// Kubernetes itself decoded strictly, those of others held against the schema of their
// custom resource definition, with unknown fields refused. It can render a Helm chart first.
//
//	manifest [-chart DIR [-values FILE]] [-crds FILE]... [FILE]...
//
// What was read is printed as a stream of YAML documents. The exit status is 1 if anything
// is wrong, with one line each on standard error.
//
// What only an admission controller or a validation in the API server's code knows (that a
// port is below 65536, say) is not found here.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// files is a flag that may be given several times.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(name string) error { *f = append(*f, name); return nil }

func main() {
	chart := flag.String("chart", "", "the folder of a Helm chart to render")
	values := flag.String("values", "", "a file of values for it")
	var crds files
	flag.Var(&crds, "crds", "a file of custom resource definitions")
	flag.Parse()
	documents, err := run(*chart, *values, crds, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(documents, "\n---\n"))
}

func run(chart, values string, crds, manifests []string) ([]string, error) {
	known, err := readDefinitions(crds)
	if err != nil {
		return nil, err
	}
	var documents []string
	if chart != "" {
		if documents, err = render(chart, values); err != nil {
			return nil, err
		}
	}
	for _, name := range manifests {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		documents = append(documents, split(string(text))...)
	}
	var errs []error
	for _, document := range documents {
		if err := known.check(document); err != nil {
			errs = append(errs, err)
		}
	}
	return documents, errors.Join(errs...)
}

// render gives the documents of a chart, as "helm template" would, for a cluster that has
// the Prometheus operator. The values must meet the chart's schema, and a template that reads
// a value that is not there is an error.
func render(folder, valuesFile string) ([]string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	values := chartutil.Values{}
	if valuesFile != "" {
		if values, err = chartutil.ReadValuesFile(valuesFile); err != nil {
			return nil, fmt.Errorf("reading the values: %w", err)
		}
	}
	capabilities := *chartutil.DefaultCapabilities
	capabilities.APIVersions = append(slices.Clone(capabilities.APIVersions), "monitoring.coreos.com/v1")
	release := chartutil.ReleaseOptions{Name: "gatehouse", Namespace: "gatehouse", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, &capabilities)
	if err != nil {
		return nil, fmt.Errorf("checking the values: %w", err)
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	var documents []string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if strings.HasSuffix(name, ".yaml") {
			documents = append(documents, split(rendered[name])...)
		}
	}
	return documents, nil
}

var separator = regexp.MustCompile(`(?m)^---.*$`)

// split gives the documents of a YAML stream that are not empty.
func split(stream string) []string {
	var documents []string
	for _, document := range separator.Split(stream, -1) {
		if strings.TrimSpace(comment.ReplaceAllString(document, "")) != "" {
			documents = append(documents, strings.Trim(document, "\n"))
		}
	}
	return documents
}

var comment = regexp.MustCompile(`(?m)^\s*#.*$`)
