// Package replicas proves, with two gatehouse binaries on one PostgreSQL behind the real
// Envoy, that what is done at one replica counts at the other: tokens, revocations,
// disabled people and the nonces of peers; and that nothing is lost or made up when
// replicas and the database are killed.
//
// Start reading at cluster_test.go, which has the configuration.
package replicas

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// acceptance tells whether the long form is asked for, as "make acceptance" does.
func acceptance() bool { return os.Getenv("ACCEPTANCE") != "" }
