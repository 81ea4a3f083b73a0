package config

import "google.golang.org/protobuf/reflect/protoreflect"

// unsupported are the fields that the language has from its first version, so that
// nobody needs to rename later, and that this release does not implement: the
// remedy by field. They are refused, since a field that is ignored is a rule that
// somebody believes in.
var unsupported = map[protoreflect.FullName]string{
	"gatehouse.config.v1.DecisionLog.otlp_endpoint": notYet,
}

const notYet = "remove it"
