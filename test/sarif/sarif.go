// Package sarif holds what `gatehouse validate --output sarif` prints against the JSON
// schema of the standard.
package sarif

import (
	"context"
	_ "embed"

	"github.com/gatehouse-authz/gatehouse/test/tools"
)

//go:embed package.json
var packageJSON []byte

//go:embed package-lock.json
var packageLock []byte

// Install fetches the schema and its validator, once, and returns their folder.
func Install(ctx context.Context) (string, error) {
	return tools.NodeModules(ctx, "sarif", packageJSON, packageLock)
}
