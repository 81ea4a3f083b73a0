// Package image checks the Dockerfile, which cannot be built where the tests run.
package image

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/tools"
)

const dockerfile = "../../Dockerfile"

func TestDockerfileLints(t *testing.T) {
	hadolint, err := tools.Hadolint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), hadolint, "--failure-threshold", "style", dockerfile).CombinedOutput(); err != nil {
		t.Errorf("hadolint: %v\n%s", err, out)
	}
}

// TestDockerfileProperties names what a linter does not ask for.
func TestDockerfileProperties(t *testing.T) {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	for property, want := range map[string]string{
		"the binary is static":                   `CGO_ENABLED=0 go build`,
		"the image has no shell":                 `(?m)^FROM gcr\.io/distroless/static-debian\d+:nonroot$`,
		"the user is a number and not root":      `(?m)^USER 65532:65532$`,
		"the health check is the program's own":  `(?m)^HEALTHCHECK .* CMD \["/gatehouse", "healthcheck"\]$`,
		"signals reach the program, not a shell": `(?m)^ENTRYPOINT \["/gatehouse"\]$`,
	} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("%s: nothing matches %s", property, want)
		}
	}
}
