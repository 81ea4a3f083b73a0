// Package policy decides. It holds the route table and the rules of a request's
// verdict: given a canonical [Request] and the [Principal] that was verified for
// it (or none), a [Table] says which [Route] covers the request and the route says
// whether the principal may make it, and if not, what is the smallest thing that
// is missing.
//
// The package is pure: no I/O, no clock, no context, no Envoy, no protobuf. The
// same inputs always give the same [Decision], which is what explain, the decision
// log and the answer to the client are made of.
//
// Start reading at [Table.Match] and [Match.Decide]. Then, by file: path.go and
// request.go say what a request is; pattern.go and relation.go what a pattern matches
// and which of two is narrower; trie.go finds the winner; requirement.go is what a
// requirement asks; builder.go, conflict.go, opens.go and contradiction.go are what a
// table may not say; explain.go tells how a decision came about.
package policy
