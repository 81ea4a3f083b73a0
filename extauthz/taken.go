package extauthz

import (
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A takenName says why a client's header of some name does not reach the upstream.
// It is a set.
type takenName uint8

const (
	owned      takenName = 1 << iota // an identity header somewhere in the configuration
	credential                       // a place where credentials are
	selection                        // a header by which callers select a tenant or a user
	override                         // replaces the method or path that was decided on
)

// overrideHeaders replace, for some frameworks, the method or the path of a request
// with what a client says: what was decided on is not what they then do.
var overrideHeaders = []string{
	"x-http-method-override",
	"x-http-method",
	"x-method-override",
	"x-original-url",
	"x-rewrite-url",
}

// taken is the set of header names that clients cannot use, of one configuration.
type taken struct {
	names  []string             // as configured, sorted
	why    map[string]takenName // by name
	folded map[string]takenName // by folded name
}

func newTaken() *taken {
	return &taken{why: make(map[string]takenName), folded: make(map[string]takenName)}
}

func (t *taken) add(name string, why takenName) {
	if name == "" {
		return
	}
	if t.why[name] == 0 {
		i, _ := slices.BinarySearch(t.names, name)
		t.names = slices.Insert(t.names, i, name)
	}
	t.why[name] |= why
	t.folded[foldName(name)] |= why
}

// removals lists what is removed of every request for one of the reasons why: the
// names themselves, and the spellings of them that some servers cannot tell from
// them. `x_tenant_id` is always among these: Envoy can be told to hide headers from
// us (allowed_headers), and forwards them all the same.
func (t *taken) removals(why takenName) []string {
	var list []string
	for _, name := range t.names {
		if t.folded[foldName(name)]&why == 0 {
			continue
		}
		list = append(list, name, foldName(name), strings.ReplaceAll(foldName(name), "-", "_"))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// isImitated tells whether one of headers is another spelling of a name that clients
// cannot use.
func (t *taken) isImitated(headers []policy.Pair) bool {
	return slices.ContainsFunc(headers, func(p policy.Pair) bool { return t.why[p.Name] == 0 && t.folded[foldName(p.Name)] != 0 })
}

// isOdd tells whether name could be another spelling of a name that is written with
// letters, digits and hyphens.
func isOdd(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; !('a' <= c && c <= 'z' || c == '-' || '0' <= c && c <= '9') {
			return true
		}
	}
	return false
}

// foldName is what CGI-like servers make of a header's name: `x.tenant_ID` and
// `x-tenant-id` are one variable to them.
func foldName(name string) string {
	if !isOdd(name) {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			b[i] = '-'
		}
	}
	return string(b)
}
