package main

// A scenario is one kind of work and the ratio that it should stay under.
type scenario struct {
	name   string
	target float64 // CPU per Check relative to the do-nothing server
	routes int
	tokens int // distinct tokens in turn; 1 is one hot token
	load   load
	log    bool // the decision log writes every decision to a file
}

// load is what a Check carries.
type load int

const (
	bearer      load = iota // a good token with the role
	wrongRole               // a good token without the role
	apiKey                  // a machine key of the file
	opaqueToken             // a token that gatehouse itself gave out, in SQLite
	freshES256              // tokens signed with ES256, more than are remembered
	passwords               // each of another person: an argon2id hash for each
	neverSeen               // each token once: the verification itself comes on top of the target
	noPlace                 // no credential: a 401
	publicPage              // a public route
	bare                    // a good token, and a server that does not look at it
)

func scenarios() []scenario {
	return []scenario{
		{name: "grpc-go alone", target: 0.50, routes: 10, tokens: 1, load: bare}, // what all the others have on top
		{name: "hot token, 10 routes", target: 0.50, routes: 10, tokens: 1},
		{name: "1,000 distinct tokens", target: 0.58, routes: 10, tokens: 1000},
		{name: "denial (wrong role)", target: 0.50, routes: 10, tokens: 1, load: wrongRole},
		{name: "hot token, 1,000 routes", target: 0.53, routes: 1000, tokens: 1},
		{name: "hot token, 100,000 routes", target: 0.58, routes: 100_000, tokens: 1},
		{name: "opaque token", target: 0.52, routes: 10, tokens: 1, load: opaqueToken},
		{name: "API key", target: 0.52, routes: 10, tokens: 1, load: apiKey},
		{name: "never-seen RS256 token", target: 0.50, routes: 10, tokens: 1, load: neverSeen},
		{name: "no credential", target: 0.50, routes: 10, tokens: 1, load: noPlace},
		{name: "public route", target: 0.50, routes: 10, tokens: 1, load: publicPage},
		{name: "hot token, decision log and metrics", target: 0.60, routes: 10, tokens: 1, log: true},
		{name: "1,000 routes and 1,000 tokens", target: 0.58, routes: 1000, tokens: 1000},
	}
}

// Codes of google.rpc.Status that answers carry.
const (
	codeOK               = 0
	codePermissionDenied = 7
	codeUnavailable      = 14
	codeUnauthenticated  = 16
)

func (s scenario) want() uint64 {
	switch s.load {
	case wrongRole:
		return codePermissionDenied
	case noPlace:
		return codeUnauthenticated
	}
	return codeOK
}
