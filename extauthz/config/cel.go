package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// celCost bounds one evaluation, in CEL's cost units: a comparison is one. A
	// cubic loop over a list of 1,000 ends after about a millisecond.
	celCost = 10_000

	// maxExpressionBytes bounds one expression.
	maxExpressionBytes = 16 << 10
)

// requestVariables and principalVariables are what `when` may refer to. They are
// declared with their dots, so that a misspelled one does not load.
var (
	requestVariables = map[string]*cel.Type{
		"request.method":  cel.StringType,
		"request.host":    cel.StringType,
		"request.path":    cel.StringType,
		"request.query":   cel.StringType,
		"request.scheme":  cel.StringType,
		"request.source":  cel.StringType,
		"request.headers": cel.MapType(cel.StringType, cel.StringType),
		"request.context": cel.MapType(cel.StringType, cel.StringType),
	}
	principalVariables = map[string]*cel.Type{
		"principal.authenticator": cel.StringType,
		"principal.realm":         cel.StringType,
		"principal.issuer":        cel.StringType,
		"principal.subject":       cel.StringType,
		"principal.username":      cel.StringType,
		"principal.token_id":      cel.StringType,
		"principal.tenant":        cel.StringType,
		"principal.tenants":       cel.ListType(cel.StringType),
		"principal.roles":         cel.ListType(cel.StringType),
		"principal.scopes":        cel.ListType(cel.StringType),
		"principal.attributes":    cel.MapType(cel.StringType, cel.DynType),
	}
)

// expressions compiles the expressions of one configuration, each distinct source
// once.
type expressions struct {
	variables  map[string]string // `env.NAME` -> value
	conditions *cel.Env          // request, principal, env
	claims     *cel.Env          // claims, env
	compiled   map[string]*compiled
}

// compiled is the outcome for one source in one environment.
type compiled struct {
	condition  *condition
	expression *claimsExpression
	attributes map[string]int // attributes of the principal that it names, and where: an offset
	request    int            // where it refers to the request; -1: nowhere
	constant   policy.Truth   // what it comes to whatever the request; see isConstant
	isConstant bool
	bad        *expressionProblem
}

// expressionProblem is what is wrong with an expression, at a byte of its source.
type expressionProblem struct {
	offset          int
	message, remedy string
}

func newExpressions(variables map[string]string) (*expressions, error) {
	e := &expressions{variables: map[string]string{}, compiled: map[string]*compiled{}}
	common := []cel.EnvOption{cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Lists(), ext.Network(), cel.CrossTypeNumericComparisons(true)}
	for name, value := range variables {
		e.variables["env."+name] = value
		common = append(common, cel.Variable("env."+name, cel.StringType))
	}
	conditions := slices.Clone(common)
	for _, group := range []map[string]*cel.Type{requestVariables, principalVariables} {
		for name, typ := range group {
			conditions = append(conditions, cel.Variable(name, typ))
		}
	}
	var err error
	if e.conditions, err = cel.NewEnv(conditions...); err != nil {
		return nil, fmt.Errorf("preparing expressions over requests: %w", err)
	}
	if e.claims, err = cel.NewEnv(append(common, cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)))...); err != nil {
		return nil, fmt.Errorf("preparing expressions over claims: %w", err)
	}
	return e, nil
}

// condition compiles an expression over request and principal.
func (e *expressions) condition(source string) *compiled {
	return e.once("when "+source, func() *compiled {
		tree, program, bad := compile(e.conditions, source, true)
		if bad != nil {
			return &compiled{bad: bad}
		}
		c := &compiled{
			condition:  &condition{source: source, program: program, variables: e.variables},
			attributes: namedAttributes(tree, source),
			request:    requestReference(tree, source),
		}
		c.constant, c.isConstant = c.condition.always(tree)
		return c
	})
}

// predicate compiles an expression over claims that must be true; value one whose
// result becomes a field of the principal.
func (e *expressions) predicate(source string) *compiled { return e.overClaims(source, true) }
func (e *expressions) value(source string) *compiled     { return e.overClaims(source, false) }

func (e *expressions) overClaims(source string, boolean bool) *compiled {
	return e.once(fmt.Sprintf("claims %t %s", boolean, source), func() *compiled {
		_, program, bad := compile(e.claims, source, boolean)
		if bad != nil {
			return &compiled{bad: bad}
		}
		return &compiled{expression: &claimsExpression{source: source, program: program, variables: e.variables}}
	})
}

func (e *expressions) once(key string, make func() *compiled) *compiled {
	if e.compiled[key] == nil {
		e.compiled[key] = make()
	}
	return e.compiled[key]
}

// compile parses and types source. A condition must be boolean, or of a type that
// is only known when it runs.
func compile(env *cel.Env, source string, boolean bool) (*cel.Ast, cel.Program, *expressionProblem) {
	if len(source) > maxExpressionBytes {
		return nil, nil, &expressionProblem{0, fmt.Sprintf("the expression is over %d KiB", maxExpressionBytes>>10), "split it into several requirements"}
	}
	tree, issues := env.Compile(source)
	if issues != nil && issues.Err() != nil {
		first := issues.Errors()[0]
		message, _, _ := strings.Cut(first.Message, "\n")
		offset := lineOffset(source, first.Location.Line(), first.Location.Column())
		if match := undeclaredName.FindStringSubmatch(message); match != nil {
			return nil, nil, undeclared(env, source, match[1], offset)
		}
		return nil, nil, &expressionProblem{offset, "the expression is not valid: " + strings.TrimSuffix(message, "."), ""}
	}
	if kind := tree.OutputType(); boolean && kind.Kind() != types.BoolKind && kind.Kind() != types.DynKind {
		return nil, nil, &expressionProblem{0, fmt.Sprintf("the expression gives a value of type %s", kind), "write one that is true or false"}
	}
	program, err := env.Program(tree, cel.CostLimit(celCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, nil, &expressionProblem{0, "the expression cannot be prepared: " + err.Error(), ""}
	}
	return tree, program, nil
}

var undeclaredName = regexp.MustCompile(`^undeclared reference to '([^']*)'`)

var dottedName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*`)

// undeclared says which variable is not there. CEL points at the last dot of the name
// or names its first part only.
func undeclared(env *cel.Env, source, name string, offset int) *expressionProblem {
	if start := strings.LastIndex(source[:min(len(source), offset+len(name))], name); start >= 0 {
		offset = start
	}
	if whole := dottedName.FindString(source[offset:]); strings.HasPrefix(whole, name) {
		name = whole
	}
	if strings.HasPrefix(name, "env.") {
		return &expressionProblem{offset, fmt.Sprintf("expressions cannot read %s", quote(name)), "list the variable in expression_env"}
	}
	var names []string
	for _, v := range env.Variables() {
		names = append(names, v.Name())
	}
	slices.Sort(names)
	remedy := "the variables are " + strings.Join(names, ", ")
	root, _, _ := strings.Cut(name, ".")
	if near := cmp.Or(closest(name, names), closest(root, names)); near != "" {
		remedy = "did you mean " + quote(near) + "?"
	}
	return &expressionProblem{offset, "expressions have no variable " + quote(name), remedy}
}

// lineOffset turns CEL's place, lines from 1 and characters from 0, into a byte.
func lineOffset(source string, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		next := strings.IndexByte(source[offset:], '\n')
		if next < 0 {
			break
		}
		offset += next + 1
	}
	for i := range source[offset:] {
		if column == 0 {
			return offset + i
		}
		column--
	}
	return len(source)
}

// namedAttributes are the attributes that an expression selects or looks for by a
// literal name.
func namedAttributes(tree *cel.Ast, source string) map[string]int {
	const attributes = "principal.attributes"
	isAttributes := func(e ast.Expr) bool {
		switch e.Kind() {
		case ast.IdentKind:
			return e.AsIdent() == attributes
		case ast.SelectKind:
			operand := e.AsSelect().Operand()
			return e.AsSelect().FieldName() == "attributes" && operand.Kind() == ast.IdentKind && operand.AsIdent() == "principal"
		}
		return false
	}
	found := map[string]int{}
	native := tree.NativeRep()
	note := func(e ast.Expr, name string) {
		if _, seen := found[name]; !seen {
			start := native.SourceInfo().GetStartLocation(e.ID())
			found[name] = lineOffset(source, start.Line(), start.Column())
		}
	}
	literal := func(e ast.Expr) (string, bool) {
		if e.Kind() != ast.LiteralKind {
			return "", false
		}
		text, ok := e.AsLiteral().Value().(string)
		return text, ok
	}
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if isAttributes(e.AsSelect().Operand()) {
				note(e, e.AsSelect().FieldName())
			}
		case ast.CallKind:
			args := e.AsCall().Args()
			if len(args) != 2 {
				return
			}
			switch e.AsCall().FunctionName() {
			case "_[_]", "_[?_]", "_?._":
				if name, ok := literal(args[1]); ok && isAttributes(args[0]) {
					note(e, name)
				}
			case "@in":
				if name, ok := literal(args[0]); ok && isAttributes(args[1]) {
					note(e, name)
				}
			}
		}
	}))
	return found
}

// requestReference is where an expression first refers to the request; -1: nowhere.
func requestReference(tree *cel.Ast, source string) int {
	first := -1
	native := tree.NativeRep()
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if first < 0 && e.Kind() == ast.IdentKind && strings.HasPrefix(e.AsIdent(), "request") {
			start := native.SourceInfo().GetStartLocation(e.ID())
			first = lineOffset(source, start.Line(), start.Column())
			if whole := strings.LastIndex(source[:min(len(source), first+len("request."))], "request"); whole >= 0 {
				first = whole
			}
		}
	}))
	return first
}

// always tells what an expression comes to for every request and principal, and whether
// that can be seen: it refers to nothing, or true and false decide it alone. What depends
// on the environment is no constant of the file.
func (c *condition) always(tree *cel.Ast) (policy.Truth, bool) {
	refers := false
	root := tree.NativeRep().Expr()
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		refers = refers || e.Kind() == ast.IdentKind
	}))
	if !refers {
		return c.Holds(&policy.Request{}, &policy.Principal{}), true
	}
	value, known := folded(root)
	switch {
	case !known:
		return policy.Failed, false
	case value:
		return policy.True, true
	}
	return policy.False, true
}

// folded is the value of an expression that true and false in it decide, whatever the
// rest comes to.
func folded(e ast.Expr) (value, known bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		value, known = e.AsLiteral().Value().(bool)
		return value, known
	case ast.CallKind:
	default:
		return false, false
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.LogicalNot:
		value, known = folded(args[0])
		return !value, known
	case operators.LogicalAnd, operators.LogicalOr:
		decisive := e.AsCall().FunctionName() == operators.LogicalOr
		all := true
		for _, arg := range args {
			value, known := folded(arg)
			if known && value == decisive {
				return decisive, true
			}
			all = all && known
		}
		return !decisive, all
	case operators.Conditional:
		if condition, known := folded(args[0]); known && condition {
			return folded(args[1])
		} else if known {
			return folded(args[2])
		}
	}
	return false, false
}

// condition is a compiled `when`.
type condition struct {
	source    string
	program   cel.Program
	variables map[string]string
}

// String is the source.
func (c *condition) String() string { return c.source }

// Holds evaluates the expression. An error, an exceeded cost and a result that is
// not a boolean are [policy.Failed].
func (c *condition) Holds(r *policy.Request, p *policy.Principal) policy.Truth {
	if r == nil || p == nil {
		return policy.Failed
	}
	result, _, err := c.program.Eval(&requestActivation{request: r, principal: p, variables: c.variables})
	if err != nil {
		return policy.Failed
	}
	switch is, ok := result.Value().(bool); {
	case !ok:
		return policy.Failed
	case is:
		return policy.True
	}
	return policy.False
}

// requestActivation gives an expression the variables that it asks for.
type requestActivation struct {
	request   *policy.Request
	principal *policy.Principal
	variables map[string]string
}

// Parent implements [cel.Activation]: there is none.
func (a *requestActivation) Parent() cel.Activation { return nil }

// ResolveName implements [cel.Activation].
func (a *requestActivation) ResolveName(name string) (any, bool) {
	r, p := a.request, a.principal
	switch name {
	case "request.method":
		return r.Method, true
	case "request.host":
		return r.Host, true
	case "request.path":
		return r.DecodedPath(), true
	case "request.query":
		return r.Query, true
	case "request.scheme":
		return r.Scheme, true
	case "request.source":
		if !r.Source.IsValid() {
			return "", true
		}
		return r.Source.Unmap().String(), true
	case "request.headers":
		return pairMap(r.Headers), true
	case "request.context":
		return pairMap(r.Context), true
	case "principal.authenticator":
		return p.Authenticator, true
	case "principal.realm":
		return p.Realm, true
	case "principal.issuer":
		return p.Issuer, true
	case "principal.subject":
		return p.Subject, true
	case "principal.username":
		return p.Username, true
	case "principal.token_id":
		return p.TokenID, true
	case "principal.tenant":
		return p.Tenant, true
	case "principal.tenants":
		return orEmpty(p.Tenants), true
	case "principal.roles":
		return orEmpty(p.Roles), true
	case "principal.scopes":
		return orEmpty(p.Scopes), true
	case "principal.attributes":
		return attributeMap(p.Attributes), true
	}
	value, ok := a.variables[name]
	return value, ok
}

// pairMap joins what is repeated with a comma, as HTTP does.
func pairMap(pairs []policy.Pair) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		if before, repeated := m[pair.Name]; repeated {
			m[pair.Name] = before + "," + pair.Value
		} else {
			m[pair.Name] = pair.Value
		}
	}
	return m
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func attributeMap(attributes map[string]policy.Attribute) map[string]any {
	m := make(map[string]any, len(attributes))
	for name, a := range attributes {
		switch {
		case a.List:
			m[name] = orEmpty(a.Values)
		case len(a.Values) > 0:
			m[name] = a.Values[0]
		}
	}
	return m
}

// claimsExpression is a compiled expression over claims.
type claimsExpression struct {
	source    string
	program   cel.Program
	variables map[string]string
}

// String is the source.
func (e *claimsExpression) String() string { return e.source }

var errNotAClaim = errors.New("the result is no value that a claim could have")

// Eval evaluates the expression. Its result is what a claim could have been: nil,
// bool, string, [json.Number], []any or map[string]any.
func (e *claimsExpression) Eval(claims authn.Claims) (any, error) {
	variables := make(map[string]any, len(e.variables)+1)
	for name, value := range e.variables {
		variables[name] = value
	}
	variables["claims"] = celValue(map[string]any(claims))
	result, _, err := e.program.Eval(variables)
	if err != nil {
		return nil, fmt.Errorf("evaluating %s: %w", e.source, err)
	}
	value, err := claimValue(result)
	if err != nil {
		return nil, fmt.Errorf("evaluating %s: %w", e.source, err)
	}
	return value, nil
}

// celValue makes numbers of JSON numbers: integers where they are written as such
// and fit, so that `claims.level == 3` holds.
func celValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return i
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return string(v) // beyond a double: comparisons with numbers fail
		}
		return f
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = celValue(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, item := range v {
			m[name] = celValue(item)
		}
		return m
	}
	return v
}

// claimValue is the reverse.
func claimValue(v ref.Val) (any, error) {
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.String:
		return string(v), nil
	case types.Int:
		return json.Number(strconv.FormatInt(int64(v), 10)), nil
	case types.Uint:
		return json.Number(strconv.FormatUint(uint64(v), 10)), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errNotAClaim
		}
		return json.Number(strconv.FormatFloat(float64(v), 'g', -1, 64)), nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return claimValue(v.GetValue())
	case traits.Mapper:
		return claimMap(v)
	case traits.Lister:
		list := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			item, err := claimValue(it.Next())
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	}
	return nil, errNotAClaim
}

func claimMap(v traits.Mapper) (any, error) {
	m := map[string]any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, errNotAClaim
		}
		item, err := claimValue(v.Get(key))
		if err != nil {
			return nil, err
		}
		m[string(name)] = item
	}
	return m, nil
}
