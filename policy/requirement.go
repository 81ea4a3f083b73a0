package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A conditionKind is one thing that a requirement can ask. The zero kind never holds.
type conditionKind uint8

const (
	condNothing conditionKind = iota // asks nothing, and so is not met
	condAuthenticated
	condAuthenticators
	condRealms
	condSubjects
	condUsernames
	condTenant
	condReadableTenant
	condOwner
	condRolesAny
	condRolesAll
	condRolesNone
	condScopesAny
	condScopesAll
	condAttributePresent
	condAttributeAny
	condAttributeAll
	condAttributeNone
	condWhen
)

var conditionNames = [...]string{
	condNothing:          "nothing",
	condAuthenticated:    "authenticated",
	condAuthenticators:   "authenticators",
	condRealms:           "realms",
	condSubjects:         "subjects",
	condUsernames:        "usernames",
	condTenant:           "tenant",
	condReadableTenant:   "readable_tenant",
	condOwner:            "owner",
	condRolesAny:         "roles.any",
	condRolesAll:         "roles.all",
	condRolesNone:        "roles.none",
	condScopesAny:        "scopes.any",
	condScopesAll:        "scopes.all",
	condAttributePresent: ".present",
	condAttributeAny:     ".any",
	condAttributeAll:     ".all",
	condAttributeNone:    ".none",
	condWhen:             "when",
}

// A condition is one field of a [Requirement], or one part of such a field.
type condition struct {
	*question
	at Position
}

// A question is what a condition asks. A large table asks a few questions in many places,
// so equal ones are one value.
type question struct {
	kind      conditionKind
	attribute string
	names     []string
	templates []Template // without their positions
	when      Condition
}

// A clause is a [Requirement] taken apart. Without conditions it does not hold.
type clause struct {
	at         Position
	conditions []condition
}

// compile takes q apart, in the order of its fields. What asks nothing (an empty list,
// a set without parts) becomes a condition that is never met: nothing vanishes.
func (b *builder) compile(q *Requirement) clause {
	if cap(b.conditions)-len(b.conditions) < conditionsPerRequirement {
		b.conditions = make([]condition, 0, max(conditionsPerRequirement, min(len(b.table.entries), conditionsPerChunk)))
	}
	start := len(b.conditions)
	if q.Authenticated != nil {
		b.ask(question{kind: condAuthenticated}, q.Authenticated.At)
	}
	b.names(condAuthenticators, q.Authenticators)
	b.names(condRealms, q.Realms)
	b.templates(condSubjects, q.Subjects)
	b.templates(condUsernames, q.Usernames)
	b.templates(condTenant, q.Tenant)
	b.templates(condReadableTenant, q.ReadableTenant)
	b.templates(condOwner, q.Owner)
	b.sets(q.Roles, condRolesAny, condRolesAll, condRolesNone)
	// There is no way to ask for the absence of a scope: a credential could be cut down
	// to reach more.
	b.sets(q.Scopes, condScopesAny, condScopesAll, condNothing)
	for i := range q.Attributes {
		b.attribute(&q.Attributes[i])
	}
	if q.When != nil {
		b.conditions = append(b.conditions, condition{&question{kind: condWhen, when: q.When.Condition}, q.When.At})
	}
	return clause{at: q.At, conditions: b.conditions[start:len(b.conditions):len(b.conditions)]}
}

// Conditions are allocated many at a time; a requirement seldom has more than this.
const (
	conditionsPerRequirement = 16
	conditionsPerChunk       = 1024
)

// ask adds a condition on plain values.
func (b *builder) ask(q question, at Position) {
	b.key = q.appendKey(b.key[:0])
	known := b.questions[string(b.key)]
	if known == nil {
		q.templates = slices.Clone(q.templates)
		for i := range q.templates {
			q.templates[i].At = Position{}
		}
		known = &q
		if b.questions == nil {
			b.questions = make(map[string]*question)
		}
		b.questions[string(b.key)] = known
	}
	b.conditions = append(b.conditions, condition{known, at})
}

// appendKey writes what tells questions without an expression apart. An absent list is
// not an empty one.
func (q *question) appendKey(key []byte) []byte {
	text := func(s string) {
		key = strconv.AppendInt(key, int64(len(s)), 10)
		key = append(key, ':')
		key = append(key, s...)
	}
	key = append(key, byte(q.kind))
	text(q.attribute)
	if q.names != nil {
		key = append(key, 'n')
		for _, name := range q.names {
			text(name)
		}
	}
	if q.templates != nil {
		key = append(key, 't')
		for i := range q.templates {
			text(q.templates[i].text)
			for _, p := range q.templates[i].parts {
				key = append(key, byte(p.kind))
			}
		}
	}
	return key
}

func (b *builder) names(kind conditionKind, n *Names) {
	if n != nil {
		b.ask(question{kind: kind, names: n.Values}, n.At)
	}
}

func (b *builder) templates(kind conditionKind, t *Templates) {
	if t != nil {
		b.ask(question{kind: kind, templates: t.Values}, t.At)
	}
}

func (b *builder) sets(s *Sets, anyKind, allKind, noneKind conditionKind) {
	if s == nil {
		return
	}
	if s.Any == nil && s.All == nil && s.None == nil {
		b.ask(question{}, s.At)
	}
	if s.Any != nil {
		b.ask(question{kind: anyKind, names: s.Any}, s.At)
	}
	if s.All != nil {
		b.ask(question{kind: allKind, names: s.All}, s.At)
	}
	if s.None != nil {
		b.ask(question{kind: noneKind, names: s.None}, s.At)
	}
}

func (b *builder) attribute(a *AttributeMatch) {
	if !a.Present && a.Any == nil && a.All == nil && a.None == nil {
		b.ask(question{attribute: a.Name}, a.At)
	}
	if a.Present {
		b.ask(question{kind: condAttributePresent, attribute: a.Name}, a.At)
	}
	for _, part := range []struct {
		kind   conditionKind
		values []Template
	}{{condAttributeAny, a.Any}, {condAttributeAll, a.All}, {condAttributeNone, a.None}} {
		if part.values != nil {
			b.ask(question{kind: part.kind, attribute: a.Name, templates: part.values}, a.At)
		}
	}
}

// holds evaluates the clause up to the first condition that is not met.
func (c *clause) holds(s *scope) bool {
	for i := range c.conditions {
		if c.conditions[i].holds(s) != True {
			return false
		}
	}
	return len(c.conditions) > 0
}

// A shortfall is what a clause lacks.
type shortfall struct {
	unmet  int
	first  Position // of the first unmet condition
	failed Position // of the first expression that could not be evaluated
	failure,
	onlyScopes bool
}

// shortfall evaluates every condition of the clause.
func (c *clause) shortfall(s *scope) shortfall {
	f := shortfall{onlyScopes: true, first: c.at}
	for i := range c.conditions {
		k := &c.conditions[i]
		truth := k.holds(s)
		if truth == True {
			continue
		}
		if f.unmet++; f.unmet == 1 {
			f.first = k.at
		}
		if truth == Failed && !f.failure {
			f.failure, f.failed = true, k.at
		}
		f.onlyScopes = f.onlyScopes && k.isScopes()
	}
	f.onlyScopes = f.onlyScopes && f.unmet > 0
	return f
}

func (k *condition) isScopes() bool { return k.kind == condScopesAny || k.kind == condScopesAll }

// holds evaluates one condition. Only an expression can fail; nobody meets nothing.
func (k *condition) holds(s *scope) Truth {
	p := s.principal
	if p == nil {
		return False
	}
	switch k.kind {
	case condAuthenticated:
		return truth(true)
	case condAuthenticators:
		return truth(contains(k.names, p.Authenticator))
	case condRealms:
		return truth(contains(k.names, p.Realm))
	case condSubjects:
		return truth(s.equalsAny(k.templates, p.Subject))
	case condUsernames:
		return truth(s.equalsAny(k.templates, p.Username))
	case condTenant:
		return truth(!s.tenancy.isWildcard(p.Tenant) && s.equalsAny(k.templates, p.Tenant))
	case condReadableTenant:
		for i := range k.templates {
			if v, ok := s.eval(&k.templates[i]); ok && s.tenancy.reads(p, v) {
				return True
			}
		}
		return False
	case condOwner:
		return truth(s.owns(k.templates))
	case condRolesAny:
		return truth(containsAny(p.Roles, k.names))
	case condRolesAll:
		return truth(containsAll(p.Roles, k.names))
	case condRolesNone:
		return truth(len(k.names) > 0 && !containsAny(p.Roles, k.names))
	case condScopesAny:
		return truth(len(k.names) > 0 && (p.Unscoped || containsAny(p.Scopes, k.names)))
	case condScopesAll:
		return truth(len(k.names) > 0 && (p.Unscoped || containsAll(p.Scopes, k.names)))
	case condAttributePresent, condAttributeAny, condAttributeAll, condAttributeNone:
		return truth(k.holdsAttribute(s))
	case condWhen:
		if k.when == nil {
			return Failed
		}
		if result := k.when.Holds(s.request, p); result == True || result == False {
			return result
		}
		return Failed
	}
	return False
}

// holdsAttribute: an attribute that is absent or empty meets nothing. A value that is
// absent is in no list: Any goes on to the next one, All and None are not met.
func (k *condition) holdsAttribute(s *scope) bool {
	have := s.principal.Attributes[k.attribute].Values
	if len(have) == 0 {
		return false
	}
	if k.kind == condAttributePresent {
		return true
	}
	for i := range k.templates {
		v, ok := s.eval(&k.templates[i])
		switch found := ok && contains(have, v); k.kind {
		case condAttributeAny:
			if found {
				return true
			}
		case condAttributeAll:
			if !found {
				return false
			}
		default:
			if !ok || found {
				return false
			}
		}
	}
	return k.kind != condAttributeAny && len(k.templates) > 0
}

func (s *scope) equalsAny(templates []Template, want string) bool {
	for i := range templates {
		if s.equals(&templates[i], want) {
			return true
		}
	}
	return false
}

// owns: what has no owner is everybody's, and the wildcard as a username stands for
// every owner.
func (s *scope) owns(owners []Template) bool {
	if s.principal.WildcardOwner {
		return len(owners) > 0
	}
	for i := range owners {
		owner, ok := s.eval(&owners[i])
		if !ok || owner == s.principal.Username && !s.tenancy.isWildcard(owner) {
			return true
		}
	}
	return false
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// contains reports whether list has want. "" is in no list.
func contains(list []string, want string) bool { return want != "" && slices.Contains(list, want) }

func containsAny(have, want []string) bool {
	for _, w := range want {
		if contains(have, w) {
			return true
		}
	}
	return false
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !contains(have, w) {
			return false
		}
	}
	return len(want) > 0
}

// name is what the condition is called in the configuration.
func (k *condition) name() string {
	if k.attribute != "" {
		suffix := conditionNames[k.kind]
		if k.kind == condNothing {
			suffix = ""
		}
		return "attributes." + k.attribute + suffix
	}
	return conditionNames[k.kind]
}

// wanted is what the condition asks, with the values of this request.
func (k *condition) wanted(s *scope) string {
	switch k.kind {
	case condNothing:
		return "something (it asks nothing)"
	case condAuthenticated:
		return "any verified caller"
	case condAttributePresent:
		return "a value"
	case condWhen:
		if k.when == nil {
			return "an expression"
		}
		return k.when.String()
	}
	var values []string
	for _, n := range k.names {
		values = append(values, strconv.Quote(n))
	}
	for i := range k.templates {
		t := &k.templates[i]
		_, literal := t.Literal()
		switch v, ok := s.eval(t); {
		case literal:
			values = append(values, strconv.Quote(v))
		case ok:
			values = append(values, strconv.Quote(v)+" ("+t.text+")")
		default:
			values = append(values, t.text+" (absent)")
		}
	}
	list := strings.Join(values, ", ")
	switch {
	case k.kind == condRolesNone || k.kind == condAttributeNone:
		return "none of " + list
	case len(values) == 1:
		return list
	case k.kind == condRolesAll || k.kind == condScopesAll || k.kind == condAttributeAll:
		return "every one of " + list
	}
	return "one of " + list
}

// had is the principal's side of the condition.
func (k *condition) had(s *scope) string {
	p := s.principal
	if p == nil {
		return nothing
	}
	switch k.kind {
	case condAuthenticated, condAuthenticators:
		return quoted(p.Authenticator)
	case condRealms:
		return quoted(p.Realm)
	case condSubjects:
		return quoted(p.Subject)
	case condUsernames, condOwner:
		return quoted(p.Username)
	case condTenant:
		return quoted(p.Tenant)
	case condReadableTenant:
		return quoted(s.tenancy.readable(p)...)
	case condRolesAny, condRolesAll, condRolesNone:
		return quoted(p.Roles...)
	case condScopesAny, condScopesAll:
		if p.Unscoped {
			return "every scope"
		}
		return quoted(p.Scopes...)
	case condAttributePresent, condAttributeAny, condAttributeAll, condAttributeNone:
		return quoted(p.Attributes[k.attribute].Values...)
	}
	return ""
}

// missing are the values of which the principal needs one (or, for …all, each), or
// must lose (for …none).
func (k *condition) missing(s *scope) []string {
	if s.principal == nil {
		return nil
	}
	var have []string
	switch k.kind {
	case condRolesAny, condRolesAll, condRolesNone:
		have = s.principal.Roles
	case condScopesAny, condScopesAll:
		have = s.principal.Scopes
	case condAttributeAny, condAttributeAll, condAttributeNone:
		have = s.principal.Attributes[k.attribute].Values
	}
	values := slices.Clone(k.names)
	for i := range k.templates {
		if v, ok := s.eval(&k.templates[i]); ok {
			values = append(values, v)
		}
	}
	excess := k.kind == condRolesNone || k.kind == condAttributeNone
	var list []string
	for _, v := range values {
		if slices.Contains(have, v) == excess {
			list = append(list, v)
		}
	}
	return list
}

const nothing = "nothing"

// maxQuoted is how many values of a principal a sentence shows: some tokens hold
// thousands of groups.
const maxQuoted = 20

func quoted(values ...string) string {
	var list []string
	for i, v := range values {
		if i == maxQuoted {
			list = append(list, fmt.Sprintf("… and %d more", len(values)-i))
			break
		}
		if v != "" {
			list = append(list, strconv.Quote(v))
		}
	}
	if len(list) == 0 {
		return nothing
	}
	return strings.Join(list, ", ")
}
