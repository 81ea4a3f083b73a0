package sarif

import (
	"encoding/json"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestNew: every rule is there, and a problem has its place whatever is known of it. The
// schema of the standard is in test/sarif.
func TestNew(t *testing.T) {
	report := &config.Report{
		Errors: []config.Problem{
			{At: policy.Position{File: "a b/ü.yaml", Line: 3, Column: 4}, Message: "m", Remedy: "r", Source: "text"},
			{At: policy.Position{File: "./x.yaml"}, Message: "m"},
		},
		Warnings: []config.Problem{{At: policy.Position{File: "/etc/x.yaml", Line: 1, Column: 1}, Message: "w"}},
	}
	log := New(report, "1.2.3")
	if rules := log.Runs[0].Tool.Driver.Rules; len(rules) != len(config.Rules()) || rules[0].ID != "schema" || rules[0].DefaultConfiguration.Level != "error" {
		t.Errorf("rules %+v", rules)
	}
	got, err := json.Marshal(log.Runs[0].Results)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"ruleId":"schema","ruleIndex":0,"level":"error","message":{"text":"m; r"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"a%20b/%C3%BC.yaml"},"region":{"startLine":3,"startColumn":4,"snippet":{"text":"text"}}}}]},` +
		`{"ruleId":"schema","ruleIndex":0,"level":"error","message":{"text":"m"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"x.yaml"},"region":{"startLine":1,"startColumn":1}}}]},` +
		`{"ruleId":"schema","ruleIndex":0,"level":"warning","message":{"text":"w"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"file:///etc/x.yaml"},"region":{"startLine":1,"startColumn":1}}}]}]`
	if string(got) != want {
		t.Errorf("results\n%s, want\n%s", got, want)
	}
	none, err := json.Marshal(New(&config.Report{}, "").Runs[0].Results)
	if err != nil || string(none) != "[]" {
		t.Errorf("nothing to say: %s, %v", none, err)
	}
}
