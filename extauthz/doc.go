// Package extauthz is the gate: it reads what a proxy asks, has it decided, and
// writes the one answer.
//
// A request walks through five values: decode (a CheckRequest, or the headers of a
// forward-auth subrequest, becomes a [Call]), match, authenticate, decide, encode.
// [Gate.Check] is that walk; start reading there. Everything that it needs hangs
// from one immutable [Snapshot], which a reload swaps whole.
//
// The package has two doors, which decide alike: the gRPC service that Envoy calls
// ([NewServer]) and HTTP forward-auth ([ForwardAuth]). It does not read the
// configuration file: it is built from the plain values of [Config].
package extauthz
