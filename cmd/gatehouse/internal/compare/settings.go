package compare

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// A Setting is something in two configurations that differs and is not compared request by
// request: which credentials an authenticator accepts, say.
type Setting struct {
	Path     string // authenticators.corp.jwt.audiences
	Old, New string // "": not there
	Effect   Effect
}

// Effect is what a changed setting can do to decisions.
type Effect uint8

const (
	Unknown  Effect = iota // it may let more pass, or less: nobody has looked at what it means
	Wider                  // more may pass
	Narrower               // less may pass
	Nothing                // nothing that a decision depends on
	compared               // request by request: it is no setting
	inside                 // its parts are settings
	block                  // its parts are settings even where it is not there
	toggled                // whether it is there is compared request by request, what it says is not
	anyOf                  // a list, of which more let more pass
	allOf                  // a list, of which more let less pass
	wider                  // true lets more pass
	narrower               // true lets less pass
)

var effectNames = map[Effect]string{Unknown: "may widen or narrow", Wider: "may widen", Narrower: "may narrow", Nothing: "decides nothing"}

func (e Effect) String() string { return effectNames[e] }

// effects say what a change of a field can do, by message and field of the schema. What
// is not listed is looked into if it is a message, and else is [Unknown]: a field that is
// new to the schema cannot be overlooked.
var effects = map[protoreflect.FullName]Effect{
	"Config.version": Nothing, "Config.listen": Nothing, "Config.routes": inside, "Config.tcp": compared, "Config.grants": compared,
	"Config.decision_log": Nothing, "Config.tracing": Nothing, "Config.answers": Nothing, "Config.limits": Unknown,
	"Config.trusted_proxies": anyOf, "Config.authenticators": inside,
	"Config.sign_in": Nothing, // it redirects who is refused anyway; what it opens is a route
	"Config.tenancy": block, "Config.anonymous": compared, "Tenancy.select_header": toggled, "Tenancy.username_header": toggled,
	"Tenancy.separator": compared, "Tenancy.default": compared, "Tenancy.wildcard": compared,
	"Paths.allow_semicolons": wider,
	"Directory.provision":    wider, "Store.stale_for": Nothing, "Store.poll": Nothing,

	"Forward.headers": compared, "Forward.credentials": compared, "Forward.request_overrides": compared, "Forward.remove": Nothing, // which headers are not ours any more is said apart

	"Authenticator.realm": compared, "Authenticator.unscoped": compared, "Authenticator.impersonate": compared, "Authenticator.wildcard": wider,
	"Authenticator.only_from": Unknown, "Authenticator.enabled": compared, "Authenticator.disabled": compared,
	"Jwt.any_issuer": wider, "Jwt.any_audience": wider, "Jwt.algorithms": Unknown, "Jwt.types": Unknown, "Jwt.require": allOf, "Jwt.from": Unknown,
	"Keys.refresh": Nothing, "Keys.unknown_kid_interval": Nothing, "Keys.timeout": Nothing, "Keys.max_bytes": Nothing, "Keys.require_kid": narrower,
	"ApiKey.keys": anyOf, "ApiKey.store": wider, "Basic.users": anyOf, "Mtls.principals": Unknown,
	"Peer.peers": anyOf, "Peer.require_expiry": narrower, "Peer.allow_empty": Nothing, "Peer.resolve": Nothing,
	"ClientCredentials.timeout": Nothing, "Introspection.timeout": Nothing, "RefreshToken.timeout": Nothing, "Lookup.timeout": Nothing,
}

// keys are the fields by which messages in lists are known.
var keys = []protoreflect.Name{"name", "id", "username"}

func settings(old, new *configv1.Config) []Setting {
	w := &walker{}
	w.message("", old.ProtoReflect(), new.ProtoReflect())
	return w.settings
}

type walker struct{ settings []Setting }

func (w *walker) add(path, old, new string, e Effect) {
	w.settings = append(w.settings, Setting{strings.TrimPrefix(path, "."), old, new, e})
}

// effectOf is what is known of a field.
func effectOf(f protoreflect.FieldDescriptor) (Effect, bool) {
	name := f.Parent().Name() + "." + f.Name()
	e, known := effects[protoreflect.FullName(name)]
	return e, known
}

// message compares two messages of a kind field by field.
func (w *walker) message(path string, old, new protoreflect.Message) {
	fields := old.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		e, known := effectOf(f)
		before, after := old.Get(f), new.Get(f)
		if e == compared || e == toggled && old.Has(f) != new.Has(f) || before.Equal(after) && old.Has(f) == new.Has(f) {
			continue
		}
		at := path + "." + string(f.Name())
		switch {
		case f.IsList() && f.Message() != nil && keyOf(f.Message()) != nil:
			w.named(at, f, e, before.List(), after.List())
		case f.IsList():
			w.list(at, f, e, before.List(), after.List())
		case e == block, isBlock(f) && !known && old.Has(f) && new.Has(f):
			w.message(at, before.Message(), after.Message())
		default:
			w.add(at, text(f, old), text(f, new), scalarEffect(e, old.Has(f) && isTrue(f, before), new.Has(f) && isTrue(f, after)))
		}
	}
}

// isBlock tells whether a field is a message of the schema, whose fields mean something.
func isBlock(f protoreflect.FieldDescriptor) bool {
	return !f.IsMap() && f.Message() != nil && f.Message().ParentFile().Package() == "gatehouse.config.v1"
}

func isTrue(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	return f.Kind() == protoreflect.BoolKind && v.Bool()
}

func scalarEffect(e Effect, before, after bool) Effect {
	switch e {
	case wider, narrower:
		if (e == wider) == after && before != after {
			return Wider
		}
		return Narrower
	case Nothing, Unknown:
		return e
	}
	return Unknown
}

// keyOf is the field by which messages of a list are known.
func keyOf(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for _, name := range keys {
		if f := m.Fields().ByName(name); f != nil {
			return f
		}
	}
	return nil
}

// named compares messages that have names, and where it counts their order.
func (w *walker) named(path string, f protoreflect.FieldDescriptor, e Effect, old, new protoreflect.List) {
	key := keyOf(f.Message())
	byName := func(l protoreflect.List) (map[string]protoreflect.Message, []string) {
		m, names := map[string]protoreflect.Message{}, []string{}
		for i := range l.Len() {
			name := l.Get(i).Message().Get(key).String()
			m[name] = l.Get(i).Message()
			names = append(names, name)
		}
		return m, names
	}
	before, oldNames := byName(old)
	after, newNames := byName(new)
	isRoute := f.Message().Name() == "Route"
	for _, name := range newNames {
		at := path + "." + name
		switch was, there := before[name]; {
		case isRoute && there:
			w.route(at, was, after[name])
		case isRoute:
		case there:
			w.message(at, was, after[name])
		default:
			w.add(at, "", "new", listEffect(e, true))
		}
	}
	for _, name := range oldNames {
		if _, there := after[name]; !there && !isRoute {
			w.add(path+"."+name, "there", "", listEffect(e, false))
		}
	}
	if f.Message().Name() != "Authenticator" {
		return
	}
	common := func(names []string, in map[string]protoreflect.Message) []string {
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, there := in[name]; return !there })
	}
	if was, is := common(oldNames, after), common(newNames, before); !slices.Equal(was, is) {
		w.add(path+" (order)", strings.Join(was, " "), strings.Join(is, " "), Unknown)
	}
}

// route compares what of a route is neither decided nor forwarded by its text.
func (w *walker) route(path string, old, new protoreflect.Message) {
	fields := old.Descriptor().Fields()
	mode, forward := fields.ByName("mode"), fields.ByName("forward")
	if old.Get(mode).String() != new.Get(mode).String() {
		w.add(path+".mode", text(mode, old), text(mode, new), Nothing) // what it decides is compared
	}
	if token := forward.Message().Fields().ByName("identity_token"); old.Has(forward) && new.Has(forward) {
		was, is := old.Get(forward).Message(), new.Get(forward).Message()
		if !was.Get(token).Equal(is.Get(token)) {
			w.add(path+".forward.identity_token", text(token, was), text(token, is), Unknown)
		}
	}
}

// listEffect is that of an item that has come or gone.
func listEffect(e Effect, added bool) Effect {
	switch {
	case e == inside:
		return Unknown
	case e == anyOf && added, e == allOf && !added:
		return Wider
	case e == anyOf || e == allOf:
		return Narrower
	case e == Nothing:
		return Nothing
	}
	return Unknown
}

// list compares lists whose items have no names.
func (w *walker) list(path string, f protoreflect.FieldDescriptor, e Effect, old, new protoreflect.List) {
	texts := func(l protoreflect.List) []string {
		var list []string
		for i := range l.Len() {
			list = append(list, itemText(f, l.Get(i)))
		}
		return list
	}
	before, after := texts(old), texts(new)
	added := slices.ContainsFunc(after, func(v string) bool { return !slices.Contains(before, v) })
	removed := slices.ContainsFunc(before, func(v string) bool { return !slices.Contains(after, v) })
	effect := Unknown
	switch {
	case e == Nothing:
		effect = Nothing
	case (e == anyOf || e == allOf) && !added && !removed:
		return // another order
	case (e == anyOf || e == allOf) && added != removed:
		effect = listEffect(e, added)
	}
	w.add(path, strings.Join(before, ", "), strings.Join(after, ", "), effect)
}

func itemText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.Message() != nil {
		return messageText(v.Message())
	}
	return v.String()
}

// text is the value of a field as a person reads it.
func text(f protoreflect.FieldDescriptor, m protoreflect.Message) string {
	if !m.Has(f) {
		return ""
	}
	v := m.Get(f)
	switch {
	case f.IsMap():
		var parts []string
		v.Map().Range(func(k protoreflect.MapKey, value protoreflect.Value) bool {
			parts = append(parts, k.String()+": "+itemText(f.MapValue(), value))
			return true
		})
		slices.Sort(parts)
		return strings.Join(parts, ", ")
	case f.Message() != nil:
		return messageText(v.Message())
	}
	return v.String()
}

// messageText is a message in one line, its fields in the order of the schema.
func messageText(m protoreflect.Message) string {
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		return d.AsDuration().String()
	}
	var parts []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if f.IsList() {
			var items []string
			for j := range m.Get(f).List().Len() {
				items = append(items, itemText(f, m.Get(f).List().Get(j)))
			}
			parts = append(parts, string(f.Name())+": ["+strings.Join(items, ", ")+"]")
			continue
		}
		parts = append(parts, string(f.Name())+": "+text(f, m))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
