// Package portal is the admin API: tokens, the directory, the audit log and the state
// of the service, by gRPC and by JSON over HTTP on one listener.
//
// It is a client of its own gate: each request is first decided like any other, by
// the route table of the configuration, whose routes `/gatehouse.admin.v1...` say who
// may call what. Start reading at [Admin.ServeHTTP].
package portal
