package authn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// ListMode is how a claim that is one string becomes a list.
type ListMode uint8

const (
	ListAuto  ListMode = iota // one item; scopes are split at spaces
	ListJSON                  // a JSON list if it begins like one, else one item
	ListSpace                 // split at spaces
	ListComma                 // split at commas, items trimmed
)

// A Field is where one field of a principal comes from: exactly one of Claim, Path,
// Value and Expression. Nothing is ever coerced: a number is no tenant.
type Field struct {
	Claim      string   // name at the top level, taken literally
	Path       []string // names from the top down, taken literally
	Value      string   // a constant; "": none
	Expression Expression

	Map          []Rename // with any, values that are not listed are dropped…
	KeepUnmapped bool     // …unless kept
	Default      []string // where nothing is left; a single field takes the first

	Required        bool // an empty field refuses the credential
	IgnoreWrongType bool // what has the wrong type counts as absent, else it refuses
	List            ListMode
}

// Rename turns the value From into To.
type Rename struct{ From, To string }

// A Mapping turns claims into a principal. It is immutable once in use and safe for
// concurrent use. A nil field stays empty.
type Mapping struct {
	Stamp Stamp

	Subject, Username, Tenant *Field
	Roles, Scopes             *Field
	Attributes                map[string]*Field
}

var (
	errWrongType = errors.New("it has the wrong type")
	errMissing   = errors.New("it is required and empty")
	errWildcard  = errors.New("it is the wildcard, which claims may not say")
)

// Principal maps claims. A claim that is missing or of the wrong type gives the
// reason; nothing of the claims is in the error but the names.
//
// Issuer, TokenID and Expires are for the caller to fill in.
func (m *Mapping) Principal(claims Claims) (*policy.Principal, policy.Reason, error) {
	p := &policy.Principal{}
	for _, single := range []struct {
		name  string
		field *Field
		to    *string
	}{{"subject", m.Subject, &p.Subject}, {"username", m.Username, &p.Username}, {"tenant", m.Tenant, &p.Tenant}} {
		if single.field == nil {
			continue
		}
		v, reason, err := single.field.values(claims, shapeSingle)
		if err != nil {
			return nil, reason, fmt.Errorf("mapping %s: %w", single.name, err)
		}
		if len(v.Values) > 0 {
			*single.to = v.Values[0]
		}
	}
	for _, list := range []struct {
		name  string
		field *Field
		shape shape
		to    *[]string
	}{{"roles", m.Roles, shapeList, &p.Roles}, {"scopes", m.Scopes, shapeScopes, &p.Scopes}} {
		if list.field == nil {
			continue
		}
		v, reason, err := list.field.values(claims, list.shape)
		if err != nil {
			return nil, reason, fmt.Errorf("mapping %s: %w", list.name, err)
		}
		*list.to = v.Values
	}
	for name, field := range m.Attributes {
		v, reason, err := field.values(claims, shapeAttribute)
		if err != nil {
			return nil, reason, fmt.Errorf("mapping attribute %s: %w", name, err)
		}
		if v.Values == nil {
			continue
		}
		if p.Attributes == nil {
			p.Attributes = make(map[string]policy.Attribute, len(m.Attributes))
		}
		p.Attributes[name] = v
	}
	if s := &m.Stamp; s.Wildcard != "" && p.Tenant == s.Wildcard && !s.WildcardClaims && m.Tenant.Value == "" {
		return nil, policy.ReasonClaimType, fmt.Errorf("mapping tenant: %w", errWildcard)
	}
	m.Stamp.complete(p)
	return p, policy.ReasonNone, nil
}

// A shape is what a field of a principal can hold.
type shape uint8

const (
	shapeSingle    shape = iota // one non-empty string
	shapeList                   // strings
	shapeScopes                 // strings, one string is split at spaces
	shapeAttribute              // strings, numbers and booleans, or a list of them
)

// values gives what the field takes from claims, with Values nil if that is nothing.
func (f *Field) values(claims Claims, as shape) (policy.Attribute, policy.Reason, error) {
	v, err := f.read(claims, as)
	if err != nil {
		if !f.IgnoreWrongType {
			return policy.Attribute{}, policy.ReasonClaimType, err
		}
		v = policy.Attribute{}
	}
	if len(f.Map) > 0 {
		v.Values = f.rename(v.Values)
	}
	v.Values = distinct(v.Values)
	if len(v.Values) == 0 && len(f.Default) > 0 {
		v = policy.Attribute{Values: f.Default, List: v.List || len(f.Default) > 1}
	}
	if len(v.Values) == 0 {
		if f.Required {
			return policy.Attribute{}, policy.ReasonClaimMissing, errMissing
		}
		if as != shapeAttribute || !v.List {
			v.Values = nil
		}
	}
	return v, policy.ReasonNone, nil
}

// read gives the values as they are in claims. An empty list stays a list: an
// attribute can be present and empty.
func (f *Field) read(claims Claims, as shape) (policy.Attribute, error) {
	var raw any
	switch {
	case f.Value != "":
		return policy.Attribute{Values: []string{f.Value}}, nil
	case f.Expression != nil:
		v, err := f.Expression.Eval(claims)
		if err != nil {
			return policy.Attribute{}, fmt.Errorf("evaluating %s: %w", f.Expression, err)
		}
		raw = v
	case f.Path != nil:
		v, err := claims.at(f.Path)
		if err != nil {
			return policy.Attribute{}, err
		}
		raw = v
	default:
		raw = claims[f.Claim]
	}
	switch v := raw.(type) {
	case nil:
		return policy.Attribute{}, nil
	case []any:
		return f.readList(v, as)
	case []string:
		items := make([]any, len(v))
		for i := range v {
			items[i] = v[i]
		}
		return f.readList(items, as)
	case string:
		return f.readString(v, as)
	}
	if text, ok := plainText(raw); ok && as == shapeAttribute && f.List == ListAuto {
		return policy.Attribute{Values: []string{text}}, nil
	}
	return policy.Attribute{}, errWrongType
}

func (f *Field) readList(items []any, as shape) (policy.Attribute, error) {
	if as == shapeSingle {
		return policy.Attribute{}, errWrongType
	}
	list := policy.Attribute{Values: make([]string, 0, len(items)), List: true}
	for _, item := range items {
		text, ok := item.(string)
		if !ok && as == shapeAttribute {
			text, ok = plainText(item)
		}
		switch {
		case !ok && f.IgnoreWrongType:
		case !ok:
			return policy.Attribute{}, errWrongType
		case text != "":
			list.Values = append(list.Values, text)
		}
	}
	return list, nil
}

func (f *Field) readString(s string, as shape) (policy.Attribute, error) {
	if as == shapeSingle {
		if s == "" {
			return policy.Attribute{}, errWrongType
		}
		return policy.Attribute{Values: []string{s}}, nil
	}
	switch {
	case f.List == ListJSON && strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "["):
		reader := jsonReader{data: []byte(s)}
		v, err := reader.document()
		items, ok := v.([]any)
		if err != nil || !ok {
			return policy.Attribute{}, errWrongType
		}
		return f.readList(items, as)
	case f.List == ListSpace || f.List == ListAuto && as == shapeScopes:
		return policy.Attribute{Values: strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), List: true}, nil
	case f.List == ListComma:
		items := strings.Split(s, ",")
		list := policy.Attribute{Values: make([]string, 0, len(items)), List: true}
		for _, item := range items {
			if item = strings.TrimSpace(item); item != "" {
				list.Values = append(list.Values, item)
			}
		}
		return list, nil
	case s == "":
		return policy.Attribute{}, nil
	}
	return policy.Attribute{Values: []string{s}, List: f.List != ListAuto}, nil
}

func (f *Field) rename(values []string) []string {
	renamed := make([]string, 0, len(values))
	for _, v := range values {
		known := false
		for _, r := range f.Map {
			if r.From == v {
				known = true
				renamed = append(renamed, r.To)
			}
		}
		if !known && f.KeepUnmapped {
			renamed = append(renamed, v)
		}
	}
	return renamed
}

// fewValues are compared faster than they are put into a map.
const fewValues = 16

// distinct drops what occurred before.
func distinct(values []string) []string {
	if len(values) < 2 {
		return values
	}
	kept := make([]string, 0, len(values))
	if len(values) <= fewValues {
		for _, v := range values {
			if !slices.Contains(kept, v) {
				kept = append(kept, v)
			}
		}
		return kept
	}
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		if !seen[v] {
			seen[v] = true
			kept = append(kept, v)
		}
	}
	return kept
}

// at follows path down from the top. What is absent or null on the way is absent;
// anything else that is not an object is an error.
func (c Claims) at(path []string) (any, error) {
	var v any = map[string]any(c)
	for _, name := range path {
		if v == nil {
			return nil, nil
		}
		object, ok := v.(map[string]any)
		if !ok {
			return nil, errWrongType
		}
		v = object[name]
	}
	return v, nil
}

// plainText gives a number or boolean as JSON writes it.
func plainText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return string(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", false
		}
		text, err := json.Marshal(v)
		return string(text), err == nil
	}
	return "", false
}
