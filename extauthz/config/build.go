package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// builder checks what the schema cannot say and turns the decoded file into what
// runs. It goes on after an error, so that all are reported; whatever it made is
// thrown away if there was one.
type builder struct {
	*document
	dir string // of the configuration file, which its paths are relative to
	env func(string) (string, bool)

	errors, warnings []Problem

	files *files
	exprs *expressions
	facts *facts
	reuse *Loaded             // the configuration before, whose unchanged authenticators go on; or nil
	parts []*part             // the authenticators, in file order
	token int                 // limits.token_bytes; 0: default
	lists map[string][]string // see list

	shared   shared
	store    *openStore // nil without
	hashKey  authn.Secret
	people   *tokens.Directory
	tenancy  *policy.Tenancy
	forwards forwards
	memory   map[string]mint.Key          // signing keys in memory, by algorithm
	rings    map[*mint.Ring]time.Duration // signing keys of the store, and how long each of them signs
	gate     *extauthz.Config             // of its own: it outlives the builder
	log      *DecisionLog
}

func newBuilder(doc *document, path string, env func(string) (string, bool), reuse *Loaded) *builder {
	dir := filepath.Dir(path)
	b := &builder{document: doc, dir: dir, env: env, files: newFiles(dir), reuse: reuse, gate: &extauthz.Config{}}
	if reuse != nil {
		b.memory, b.shared = maps.Clone(reuse.memory), reuse.shared
	} else {
		b.shared = shared{authn.NewCacheKeys(), authn.NewCorePool(authn.DefaultPasswordQueue)}
	}
	return b
}

// build goes through the blocks of the file. Later ones need what earlier ones found.
func (b *builder) build() {
	b.buildExpressions()
	b.buildTenancy()
	b.checkListen()
	b.checkTracing()
	b.buildLimits()
	b.collectFacts()
	b.buildStore()
	b.buildAuthenticators()
	b.buildGrants()
	b.buildForward()
	b.buildRoutes()
	b.buildTCP()
	b.buildSignIn()
	b.buildAnswers()
	b.buildDecisionLog()
	b.checkTable()
	b.checkUse()
}

// errorf reports a setting that cannot work; failf what breaks a rule of its own.
func (b *builder) errorf(at policy.Position, remedy, format string, args ...any) {
	b.failf(ruleSetting, at, remedy, format, args...)
}

func (b *builder) failf(rule Rule, at policy.Position, remedy, format string, args ...any) {
	b.errors = append(b.errors, b.src.problem(rule, at, fmt.Sprintf(format, args...), remedy))
}

func (b *builder) warnf(rule Rule, at policy.Position, remedy, format string, args ...any) {
	b.warnings = append(b.warnings, b.src.problem(rule, at, fmt.Sprintf(format, args...), remedy))
}

// list gives equal lists as one: many routes accept the same authenticators.
func (b *builder) list(names []string) []string {
	if len(names) == 0 {
		return names
	}
	key := fmt.Sprintf("%q", names)
	if known := b.lists[key]; known != nil {
		return known
	}
	if b.lists == nil {
		b.lists = make(map[string][]string)
	}
	b.lists[key] = names
	return names
}

// isTainted says whether something in m was reported already, so that what is
// missing from it may not be missing.
func (b *builder) isTainted(m proto.Message) bool {
	n := b.pos.nodes[m]
	return b.walker.tainted[n] || b.walker.invalid[n]
}

// syntax reports what is wrong in a text of m, with the caret in the text. name and
// key lead to it as in [positions.item]; key may be nil.
func (b *builder) syntax(m proto.Message, name string, key any, err error) {
	node := b.pos.fieldNode(m, name)
	if key != nil {
		node = b.pos.itemNode(m, name, key)
	}
	offset, message, remedy := 0, err.Error(), ""
	if bad := (*policy.SyntaxError)(nil); errors.As(err, &bad) {
		offset, message, remedy = bad.Offset, bad.Message, bad.Remedy
		if remedy == "allowed are " { // nothing is
			remedy = "write the value itself"
		}
	}
	b.failf(rulePattern, b.pos.inside(node, offset), remedy, "%s", message)
}

// expression reports an expression that does not compile.
func (b *builder) expression(m proto.Message, name string, bad *expressionProblem) {
	b.failf(ruleExpression, b.pos.inside(b.pos.fieldNode(m, name), bad.offset), bad.remedy, "%s", bad.message)
}

func (b *builder) buildExpressions() {
	variables := map[string]string{}
	for i, name := range b.config.GetExpressionEnv() {
		value, set := b.env(name)
		if !set {
			b.errorf(b.pos.item(b.config, "expression_env", i), "set it, or remove it from the list", "variable %s is not set", name)
		}
		variables[name] = value
	}
	exprs, err := newExpressions(variables)
	if err != nil {
		b.errorf(b.pos.field(b.config, "expression_env"), "", "%v", err)
		exprs, _ = newExpressions(nil)
	}
	b.exprs = exprs
}

func (b *builder) buildTenancy() {
	t := b.config.GetTenancy()
	if t == nil {
		return
	}
	b.tenancy = &policy.Tenancy{Separator: t.GetSeparator(), Default: t.GetDefault(), Wildcard: t.GetWildcard()}
	b.gate.SelectHeader, b.gate.UsernameHeader = strings.ToLower(t.GetSelectHeader()), strings.ToLower(t.GetUsernameHeader())
	for _, header := range []struct{ field, name string }{{"select_header", b.gate.SelectHeader}, {"username_header", b.gate.UsernameHeader}} {
		if header.name != "" && (!isToken(header.name) || isReservedHeader(header.name)) {
			b.errorf(b.pos.field(t, header.field), "choose another", "%s cannot be a header of ours", quote(header.name))
		}
	}
	switch {
	case b.gate.SelectHeader != "" && b.gate.SelectHeader == b.gate.UsernameHeader:
		b.errorf(b.pos.field(t, "username_header"), "choose another", "select_header and username_header are the same")
	case t.GetWildcard() != "" && t.GetWildcard() == t.GetDefault():
		b.errorf(b.pos.field(t, "wildcard"), "choose another", "the wildcard and the default tenant are the same")
	case t.GetSeparator() != "" && (strings.Contains(t.GetDefault(), t.GetSeparator()) || strings.Contains(t.GetWildcard(), t.GetSeparator())):
		b.errorf(b.pos.field(t, "separator"), "choose another", "the separator is part of the default tenant or the wildcard")
	case len(b.walker.disabled["authenticators"]) > 0: // one of them may use it
	case b.gate.UsernameHeader != "" && !slices.ContainsFunc(b.config.GetAuthenticators(), (*configv1.Authenticator).GetImpersonate):
		b.warnf(ruleNoEffect, b.pos.field(t, "username_header"), "give one impersonate: true, or remove the line", "no authenticator may use username_header")
	}
}

// adopt takes over what the table or the grants found.
func (b *builder) adopt(problems []policy.Problem) {
	for _, p := range problems {
		switch rule := ofTable[p.Kind]; {
		case p.Warning && rule == ruleConflict: // with a route in shadow
			b.warnf(ruleTrial, p.At, p.Remedy, "%s", p.Message)
		case p.Warning:
			b.warnf(rule, p.At, p.Remedy, "%s", p.Message)
		default:
			b.failf(rule, p.At, p.Remedy, "%s", p.Message)
		}
	}
}
