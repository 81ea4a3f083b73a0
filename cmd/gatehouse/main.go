// Command gatehouse is the external authorization service and the tools around its
// configuration: one binary.
//
// There is one file per command. A command reads its flags, calls the packages below
// and prints; what it prints goes to the writers of its [program], so that tests run
// commands as a shell would. Start reading at root.go, then serve.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// SIGHUP belongs to serve, which reloads on it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
