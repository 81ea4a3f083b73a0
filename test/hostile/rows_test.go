package hostile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

// A row is one hostile request. want is the status that the client gets, 200 if the
// request goes on, and the reason: "401 expired". Without a reason any will do.
type row struct {
	name    string
	request request
	want    string
}

// A family is rows that attack one thing.
type family struct {
	name string
	rows []row
}

// leastRows keeps generators from coming out empty unnoticed.
const leastRows = 1000

func TestHostile(t *testing.T) {
	s := start(t)
	n := 0
	for _, f := range s.families(t) {
		n += len(f.rows)
		t.Run(f.name, func(t *testing.T) {
			names := make(map[string]bool)
			for _, row := range f.rows {
				if names[row.name] {
					t.Errorf("two rows are called %q", row.name)
				}
				names[row.name] = true
				a := s.ask(t, row.request)
				got := fmt.Sprintf("%d %s", a.status, a.reason)
				if got != row.want && fmt.Sprint(a.status) != row.want {
					t.Errorf("%s: %s, want %s\n%.300q", row.name, got, row.want, fmt.Sprint(row.request))
				}
			}
		})
	}
	t.Logf("%d rows, each asked 4 times", n)
	if n < leastRows {
		t.Errorf("%d rows, want %d at least", n, leastRows)
	}
	log := s.log()
	for what, credential := range map[string]string{
		"a key": batchKey, "another key": acmeKey, "the inside key": insideKey, "a shared secret": consoleSecret, "a password": adamPassword,
		"tokens": "eyJ", "a token's signature": s.goodSignature(),
	} {
		if strings.Contains(log, credential) {
			t.Errorf("the log holds %s", what)
		}
	}
	if strings.Contains(log, "panic") {
		t.Error("something panicked")
	}
}

func (s *stack) families(t *testing.T) []family {
	return []family{
		{"good", s.goodRows()},
		{"form of tokens", s.formRows()},
		{"every byte of a token", s.mutationRows()},
		{"header of tokens", s.headerRows(t)},
		{"claims", s.claimRows()},
		{"JSON", s.jsonRows()},
		{"places of credentials", s.placeRows()},
		{"cookies", s.cookieRows()},
		{"query", s.queryRows()},
		{"keys and passwords", s.keyRows()},
		{"paths", s.pathRows()},
		{"hosts", s.hostRows()},
		{"methods", s.methodRows()},
		{"forged headers", s.forgedRows()},
		{"selection", s.selectionRows()},
		{"routes by name", s.namedRows()},
		{"certificates", s.certificateRows()},
		{"browsers", s.browserRows()},
		{"outcomes", s.outcomeRows()},
	}
}

// alice is who most good tokens are about.
var alice = map[string]any{
	"email": "alice@acme.example", "tenant": "acme", "groups": []string{"reader"},
	"scope": "orders:read", "department": "sales", "amr": []string{"pwd"},
}

// token is alice's, but for changes; nil removes a claim.
func (s *stack) token(changes map[string]any) string {
	claims := map[string]any{}
	for name, value := range alice {
		claims[name] = value
	}
	for name, value := range changes {
		claims[name] = value
	}
	return s.issuer.Token(claims)
}

// claims are alice's as JSON, without the closing brace.
func (s *stack) claims() string {
	claims := s.issuer.Claims(alice)
	return fmt.Sprintf(`{"iss":%q,"aud":"orders","sub":"alice","email":"alice@acme.example","tenant":"acme","groups":["reader"],"iat":%d,"exp":%d`,
		s.issuer.URL(), claims["iat"], claims["exp"])
}

// head is a good header as JSON, without the closing brace.
func (s *stack) head() string {
	return fmt.Sprintf(`{"alg":"RS256","kid":%q`, s.issuer.Current().ID)
}

// signed signs header and claims as they are.
func (s *stack) signed(header, claims string) string {
	return s.issuer.Current().SignRaw([]byte(header), []byte(claims))
}

func (s *stack) bearer(token string) []header {
	return []header{{"authorization", "Bearer " + token}}
}

// me asks for a page that any verified caller may see.
func (s *stack) me(token string) request { return get("/me/", s.bearer(token)...) }

func (s *stack) goodSignature() string {
	token := s.token(map[string]any{"jti": "signature"})
	return token[strings.LastIndexByte(token, '.')+1:]
}

func (s *stack) goodRows() []row {
	return []row{
		{"a token", s.me(s.token(nil)), "200 requirement_met"},
		{"a token with white space in its JSON", s.me(s.signed(" "+s.head()+" }\n", "\t"+s.claims()+"\r\n}")), "200 requirement_met"},
		{"a token of the shared secret", s.me(consoleToken(nil)), "200 requirement_met"},
		{"a token in a cookie", get("/me/", header{"cookie", "access_token=" + s.token(nil)}), "200 requirement_met"},
		{"a token in the query", get("/me/?access_token=" + s.token(nil)), "200 requirement_met"},
		{"a key", get("/me/", header{"x-api-key", batchKey}), "200 requirement_met"},
		{"a password", get("/me/", basic("adam", adamPassword)), "200 requirement_met"},
		{"a certificate", request{method: "GET", host: "h.example", path: "/me/", certificate: "spiffe://cluster.local/ns/acme/sa/web"}, "200 requirement_met"},
		{"nothing, where it is public", get("/"), "200 public"},
		{"nothing", get("/me/"), "401 no_credential"},
		{"a scheme in capitals", get("/me/", header{"authorization", "BEARER " + s.token(nil)}), "200 requirement_met"},
		{"a header in capitals", get("/me/", header{"Authorization", "Bearer " + s.token(nil)}), "200 requirement_met"},
		{"another key of the issuer's", s.me(s.issuer.Current().Token(s.issuer.Claims(alice))), "200 requirement_met"},
	}
}

// foreign is a key that nobody publishes.
func foreign(t testing.TB, id, algorithm string) *authntest.Key {
	t.Helper()
	key, err := authntest.NewKey(id, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
