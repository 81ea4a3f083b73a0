// Package hostile attacks the built binary over gRPC, as a client would whose requests
// reach it unchanged: forged tokens, odd paths, hosts, methods and headers, repeated
// credentials, broken messages.
//
// Every request is sent in both forms that Envoy has for headers, to a gatehouse with
// the fast decoder and to one with the generated code, and all four answers must agree.
// Whatever a row wants, what [invariants] states holds of every answer.
//
// Start reading at the configuration in stack_test.go, then at [stack.rows].
package hostile
