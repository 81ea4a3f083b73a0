// Package config turns the configuration file into what runs: one immutable
// snapshot, or every error in the file at once, each with its place and a remedy.
//
// The language is the protobuf schema in proto/gatehouse/config/v1, written as YAML.
// Loading goes forward in steps, each of which may add problems to the [Report]:
//
//	scan      bytes: size, UTF-8, a single document               source.go
//	walk      YAML nodes against the schema: names, duplicates,   walk.go, scalar.go, expand.go
//	          null, types; variables are expanded
//	decode    nodes to protobuf by protoyaml                      load.go
//	validate  the bounds that the schema declares                 violation.go
//	check     what needs two fields, a look-up or a file          check*.go
//	build     the table, the authenticators, the snapshot         build*.go
//
// Start reading at [Load].
package config

//go:generate go test . -run TestReference -update
