// Command fetch installs every pinned program that the tests run, so that "make test"
// says what it downloads before the first test waits for it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/gatehouse-authz/gatehouse/envoy"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := fetch(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(ctx context.Context) error {
	path, err := envoy.Find(ctx, os.Stdout)
	if err != nil {
		return err
	}
	fmt.Println("Envoy:", path)
	if path, err = idp.Install(ctx); err != nil {
		return err
	}
	fmt.Println("oidc-provider:", path)
	if path, err = tools.Hadolint(ctx); err != nil {
		return err
	}
	fmt.Println("hadolint:", path)
	return nil
}
