package config

import (
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// Loaded is a configuration that holds: what the file says, decoded and checked.
type Loaded struct {
	Config *configv1.Config
}

// Load reads the configuration file at path. env looks up environment variables,
// as [os.LookupEnv] does. The Report holds every error of the file at once, in file
// order; Loaded is nil if there is one.
func Load(path string, env func(string) (string, bool)) (*Loaded, *Report) {
	report := &Report{}
	defer report.finish()
	data, err := readFile(path)
	if err != nil {
		report.Errors = append(report.Errors, Problem{At: policy.Position{File: path}, Message: err.Error()})
		return nil, report
	}
	doc, problems := parse(path, data, env)
	report.Errors = problems
	if !report.OK() {
		return nil, report
	}
	return &Loaded{Config: doc.config}, report
}
