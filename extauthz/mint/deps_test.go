package mint

import (
	"os/exec"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for forbidden, why := range map[string]string{
		"github.com/gatehouse-authz/gatehouse/extauthz":       "the gate mints, not the other way round",
		"github.com/gatehouse-authz/gatehouse/extauthz/authn": "a token is made from a principal, whatever proved it",
		"github.com/envoyproxy/go-control-plane/envoy":        "the token does not depend on who carries it",
		"google.golang.org/protobuf":                          "configuration comes as plain values",
	} {
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if dep == forbidden || strings.HasPrefix(dep, forbidden+"/") && forbidden != "github.com/gatehouse-authz/gatehouse/extauthz" {
				t.Errorf("imports %s: %s", dep, why)
			}
		}
	}
}
