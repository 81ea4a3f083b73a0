// Package envoy holds the Envoy configurations that users copy, and what it takes to
// run one of them: the pinned Envoy itself ([Find]), the shipped configuration with
// other addresses in it ([Render]), and the wait until Envoy serves ([WaitReady]).
//
// The YAML files in this folder are the product; the Go code exists so that
// "gatehouse demo" and the end-to-end tests run exactly these files and not copies of
// them. Start reading at envoy.yaml, then README.md.
package envoy
