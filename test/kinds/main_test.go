// Package kinds proves, through the real Envoy, that each kind of credential is accepted,
// and refused when it is wrong, forged, expired, replayed, from elsewhere, or when its
// provider is out of order.
//
// Start reading at stack_test.go, which has the configuration.
package kinds

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
