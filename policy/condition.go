package policy

// Truth is what an expression came to. Its zero value is an error, which denies.
type Truth uint8

const (
	Failed Truth = iota // evaluation error, exceeded cost or a result that is not a boolean
	False
	True
)

// A Condition is an expression that the configuration compiled: the one call-back
// of this package, so that it need not know the expression language. Holds must be
// pure and safe for concurrent use. principal may be nil for routes that nobody
// authenticated.
type Condition interface {
	Holds(*Request, *Principal) Truth
	String() string // the source, for explanations
}
