// Package mesh runs what Istio's control plane generated: a real Envoy with those listeners,
// the real gatehouse answering with the configuration in envoy/istio, and callers that prove
// who they are by SPIFFE certificates.
//
// The listeners are committed in generated/, see README.md there for where they come from.
// The Envoy is the upstream build, not Istio's. Start reading at listeners_test.go.
package mesh

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
