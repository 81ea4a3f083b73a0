// Package e2e proves from outside what gatehouse promises: a client sends bytes to a real
// Envoy, which asks the real binary, whose tokens come from an OpenID provider that knows
// nothing of gatehouse; an upstream tells what reached it.
//
// Start reading at stack_test.go, which has the configuration that most rows run against
// and the row itself. Each other file is about one promise.
package e2e

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// acceptance tells that tests may take long.
func acceptance() bool { return os.Getenv("ACCEPTANCE") != "" }
