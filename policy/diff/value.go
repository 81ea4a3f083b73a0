package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Value is one thing that the upstream gets.
type Value struct {
	Text     string           // in a form that differs where it does
	Template *policy.Template // that it is the value of; nil: the text says it all
	JSON     bool             // lists of the template are written as JSON
	Identity bool             // it tells all about the caller, as Text says, and is there only with one
}

// A pairing is a thing that the upstream gets as both sides have it; nil: they have none.
type pairing struct {
	name     string
	was, is  *Value
	old, new bound // of the request in question
}

// pairings are what the upstream gets of a request, by name.
func (c *comparison) pairings(r *policy.Request, old, new policy.Match) []pairing {
	if c.old.Forwarded == nil || c.new.Forwarded == nil || r.TCP {
		return nil
	}
	before, after := c.old.Forwarded(old.Route), c.new.Forwarded(new.Route)
	byName := map[string]*pairing{}
	for name, v := range before {
		byName[name] = &pairing{name: name, was: &v}
	}
	for name, v := range after {
		if byName[name] == nil {
			byName[name] = &pairing{name: name}
		}
		byName[name].is = &v
	}
	list := make([]pairing, 0, len(byName))
	for _, p := range byName {
		p.old, p.new = p.was.bind(r, old), p.is.bind(r, new)
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b pairing) int { return cmp.Compare(a.name, b.name) })
	return list
}

// A bound is a value of one request: what is left of it depends on the principal alone.
type bound struct {
	value    *Value
	text     string          // of a constant, the value; else a form in which equal texts mean the same
	template policy.Template // of no constant, unless it is an identity
	refers   []string        // to what of the principal; none: it is a constant
}

// identity is what an identity token tells.
var identity = []string{"authenticator", "realm", "unscoped", "subject", "username", "tenant", "roles", "scopes", "attributes"}

func (v *Value) bind(r *policy.Request, m policy.Match) bound {
	switch {
	case v == nil:
		return bound{}
	case v.Identity:
		return bound{value: v, text: v.Text, refers: identity}
	case v.Template == nil:
		return bound{value: v, text: v.Text}
	}
	template, ok := v.Template.Bind(r, m)
	if !ok {
		return bound{value: v} // what it says of the request is absent
	}
	b := bound{value: v, text: template.String(), template: template, refers: template.References()}
	if len(b.refers) == 0 {
		b.text = render(&template, false, nil)
		if parts := taken(v.Template.String()); v.JSON && len(parts) == 3 && parts[0]+parts[2] == "" { // one reference
			b.text = array([]string{b.text})
		}
	}
	return b
}

// isSame tells whether two are made of principals in the same way.
func (b *bound) isSame(other *bound) bool {
	return b.text == other.text && slices.Equal(b.refers, other.refers) &&
		(len(b.refers) == 0 || b.value.Identity == other.value.Identity && b.value.JSON == other.value.JSON)
}

// of is what the upstream gets for a principal; "": nothing.
func (b *bound) of(p *policy.Principal) string {
	switch {
	case len(b.refers) == 0:
		return b.text
	case !b.value.Identity:
		return render(&b.template, b.value.JSON, p)
	case p == nil || p.Authenticator == "":
		return ""
	}
	return fmt.Sprintf("%s of %q %q %q %q %q %q %q %t %v", b.text, p.Authenticator, p.Realm, p.Subject, p.Username, p.Tenant, p.Roles, p.Scopes, p.Unscoped, p.Attributes)
}

// render is the value of a template in a header, as the gate writes it.
func render(t *policy.Template, json bool, p *policy.Principal) string {
	values, ok := t.Expand(&policy.Request{}, policy.Match{}, p)
	if !ok {
		return ""
	}
	var text strings.Builder
	for _, v := range values {
		switch {
		case v.List && json:
			text.WriteString(array(v.Items))
		case v.List:
			for i, item := range v.Items {
				if i > 0 {
					text.WriteByte(',')
				}
				text.WriteString(encodeItem.Replace(item))
			}
		case json && len(values) == 1 && !v.Literal:
			text.WriteString(array([]string{v.Text}))
		default:
			text.WriteString(encodeItem.Replace(v.Text))
		}
	}
	return text.String()
}

func array(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = strconv.Quote(item)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// encodeItem keeps the comma of an item apart from that between two items.
var encodeItem = strings.NewReplacer("%", "%25", ",", "%2C")

// description is what a reader is told of a value: how it is made and, where both sides
// make it in one way, what comes of it.
func (b *bound) description(p *policy.Principal, same bool) string {
	value := b.of(p)
	switch {
	case value == "" || b.value.Template == nil && !b.value.Identity:
		return value
	case b.value.Identity && !same:
		return b.text
	case b.value.Identity:
		return b.text + " of " + summary(p)
	case len(b.refers) == 0 || same || b.value.Template.String() == value:
		return b.value.Text + " = " + strconv.Quote(value)
	}
	return b.value.Text
}

// summary is what of a principal grants and tenancy make.
func summary(p *policy.Principal) string {
	parts := append(append(slices.Clone(p.Roles), p.Scopes...), p.Tenants...)
	return p.Realm + " " + strings.Join(parts, " ")
}
