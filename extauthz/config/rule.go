package config

import "github.com/gatehouse-authz/gatehouse/policy"

// A Rule is what a problem breaks. Its name is for programs: editors, continuous
// integration, lists of what to leave aside.
type Rule uint8

const (
	ruleSchema Rule = iota // what the walk and the schema find
	ruleYAML
	ruleSetting
	ruleName
	rulePattern
	ruleExpression
	ruleNeverHolds
	ruleConflict
	ruleDuplicate
	ruleSelfOverlap
	ruleShadowed
	ruleOpens
	ruleUnqualified

	ruleSpelling // from here on: warnings
	ruleUnreachable
	ruleConstant
	ruleUnused
	ruleUnset
	ruleNoEffect
	ruleTrial
	ruleWeak
)

// A RuleText is what people read of a rule.
type RuleText struct {
	Name    string
	Warning bool   // it does not stop a configuration from loading
	Short   string // a sentence
	Remedy  string // what to do, in general; a problem has its own
}

var ruleTexts = [...]RuleText{
	ruleSchema:      {"schema", false, "A field is unknown, repeated, missing, empty, of the wrong type or out of bounds.", "Write it as the reference says."},
	ruleYAML:        {"yaml", false, "The file is not one plain YAML document.", "Write one document in UTF-8, without directives, tags and anchors."},
	ruleSetting:     {"setting", false, "A setting cannot work: by itself, beside another one, or with the file or variable that it refers to.", "Change one of them."},
	ruleName:        {"name", false, "A name refers to an authenticator, a realm, a route or an attribute that is not there.", "Correct the name, or add what it refers to."},
	rulePattern:     {"pattern", false, "A pattern of routes, or a text with references, cannot be read.", "Write patterns as those of net/http, and references as {path.id}."},
	ruleExpression:  {"expression", false, "An expression does not compile, or is not of the type that is wanted.", "Correct the expression."},
	ruleNeverHolds:  {"never-holds", false, "A requirement contradicts itself: nobody can ever meet it.", "Remove it, or one of the conditions that exclude each other."},
	ruleConflict:    {"conflict", false, "Two patterns match the same request, and neither is narrower.", "Write the pattern of what both match as well, in the route that should win."},
	ruleDuplicate:   {"duplicate", false, "Two routes have one name.", "Give one of them another name."},
	ruleSelfOverlap: {"self-overlap", false, "Two patterns of one route match the same request, and the route uses what the wildcards match.", "Put them into two routes."},
	ruleShadowed:    {"shadowed", false, "A pattern can never match: narrower ones cover all of it.", "Remove it."},
	ruleOpens:       {"opens", false, "An open route decides, by method or host, requests on a path that a narrower route guards.", "Guard the other methods and hosts as well, or name the guarded route under opens."},
	ruleUnqualified: {"unqualified-name", false, "A condition on usernames or subjects does not say whose names it means.", "Add authenticators or realms to it."},

	ruleSpelling:    {"spelling", true, "An open route decides a path that an upstream may take for one which a narrower route guards: in other letters (/ADMIN), or with a parameter (/admin;x) where paths may hold semicolons.", "Write one spelling in the whole file, and public paths one by one; or say that upstreams take paths as they are written: paths: {literal_upstreams: true}."},
	ruleUnreachable: {"unreachable", true, "A requirement asks for a role, scope, subject, username or tenant that nobody who gets there can have.", "Correct the value, or map it."},
	ruleConstant:    {"constant", true, "An expression holds for every request.", "Remove it."},
	ruleUnused:      {"unused", true, "No route accepts an authenticator.", "Add it to a route, or remove it."},
	ruleUnset:       {"unset", true, "A header is mapped to an attribute that nothing sets.", "Correct the name, or map the attribute."},
	ruleNoEffect:    {"no-effect", true, "A setting changes nothing, because another one is not there.", "Remove it, or add what it needs."},
	ruleTrial:       {"trial", true, "A route is in shadow and decides nothing; or would conflict with others once it does.", "Enforce it once its log looks right."},
	ruleWeak:        {"weak", true, "A setting works, and is weaker than it should be: a short secret, an address without encryption, a key that is lost at each start.", "Use what the problem says."},
}

// Text is what people read of r.
func (r Rule) Text() RuleText { return ruleTexts[r] }

// Rules are all there are, errors first.
func Rules() []RuleText { return append([]RuleText(nil), ruleTexts[:]...) }

// ofTable are the rules of what [policy.NewTable] finds.
var ofTable = map[policy.ProblemKind]Rule{
	policy.ProblemInvalid: ruleSetting, policy.ProblemConflict: ruleConflict, policy.ProblemDuplicate: ruleDuplicate,
	policy.ProblemOpens: ruleOpens, policy.ProblemShadowed: ruleShadowed, policy.ProblemNeverHolds: ruleNeverHolds,
	policy.ProblemSelfOverlap: ruleSelfOverlap, policy.ProblemUnknownName: ruleName,
	policy.ProblemUnqualifiedName: ruleUnqualified, policy.ProblemSpelling: ruleSpelling,
}
