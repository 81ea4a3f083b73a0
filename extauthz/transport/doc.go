// Package transport serves gRPC over HTTP/2 (RFC 9113) for a service whose calls are
// short: one goroutine per connection reads calls, answers them where they are read, and
// writes all answers of what it had read at once. grpc-go hands each call from the
// goroutine that reads to one that works to one that writes; for a call that takes seven
// microseconds of work, that costs two times the work.
//
// A call that has to wait for something must not keep the next ones from being read. It
// says so before it waits ([patience.Ahead]), and another goroutine reads on. Other
// methods and streams have a goroutine of their own from the beginning.
//
// Frames and header blocks are read by golang.org/x/net/http2, which keeps most rules of
// the wire; what a connection and its streams may do is here. Start reading at [Server],
// then at the method read of a connection.
package transport
