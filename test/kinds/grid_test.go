package kinds

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// states are what becomes of a credential of any kind.
var states = [...]string{"accepted", "refused", "forged", "expired", "replayed", "outage"}

// A cell is one kind in one state: a request and what becomes of it. A refusal has one
// reason, which the log tells.
type cell struct {
	kind, state, name string
	ask               func(*testing.T) reply
	status            int
	told              string // refused: the reason in the log; accepted: whom the upstream saw, by which authenticator if not the kind's
}

// reply is what a client got.
type reply struct {
	status   int
	header   http.Header
	upstream *echo.Received
}

// cannotBe are the states that a kind does not have, and why.
var cannotBe = map[[2]string]string{
	{"basic", "expired"}: "a password in the file is good until its line is removed, and the file loaded again",
	{"basic", "outage"}:  "the list is in the file: there is nobody to be out of order",
	{"peer", "outage"}:   "the secret is in the file; a peer's name that does not resolve admits nobody, which is a row of refused",
	{"mtls", "outage"}:   "Envoy verifies certificates by the authority in its own configuration",
}

// TestGrid proves each kind of credential in each state, through the real Envoy: accepted,
// refused for what it is, forged, expired, replayed and while its provider is out of order.
// A kind that the configuration knows and the grid does not fails the test.
func TestGrid(t *testing.T) {
	w := startWorld(t)
	cells := append(w.secrets(t), append(w.remotes(t), append(w.peers(t), w.jwts(t)...)...)...)
	w.known(t)
	for _, state := range states {
		if state == "outage" {
			w.provider.broken.Store(true)
			if err := w.postgres.Down(); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(state, func(t *testing.T) {
			for _, c := range cells {
				if c.state == state {
					t.Run(c.kind+": "+c.name, func(t *testing.T) { w.prove(t, c) })
				}
			}
		})
	}
	covers(t, cells)
}

// prove asks and looks at both ends.
func (w *world) prove(t *testing.T, c cell) {
	t.Helper()
	got := c.ask(t)
	switch {
	case got.status != c.status:
		t.Fatalf("status %d, want %d", got.status, c.status)
	case c.status == 0:
		return // no connection came about, so nobody was asked
	case c.status == http.StatusOK:
		who, by, _ := strings.Cut(c.told, " by ")
		if by == "" {
			by = c.kind
		}
		seen := strings.Join(harness.Folded(got.upstream, "x-subject", "x-by"), " ")
		if !strings.Contains(seen+" ", "x-subject: "+who+" ") || !strings.Contains(seen+" ", "x-by: "+by+" ") {
			t.Errorf("the upstream saw %q, want %q by %s", seen, who, by)
		}
		return
	case got.upstream != nil:
		t.Error("the upstream was reached")
	}
	id := got.header.Get("X-Gatehouse-Decision-Id")
	harness.Eventually(t, 10*time.Second, func() error {
		for _, line := range w.gatehouse.Decisions() {
			if line["decision_id"] == id {
				if line["reason"] != c.told {
					t.Errorf("the log says %v (%v), want %s", line["reason"], line["detail"], c.told)
				}
				return nil
			}
		}
		return fmt.Errorf("the log has no decision %q", id)
	})
	switch retry := got.header.Get("Retry-After"); {
	case (retry != "") != (c.status == http.StatusServiceUnavailable):
		t.Errorf("Retry-After is %q", retry)
	case (len(got.header.Values("Www-Authenticate")) > 0) != (c.status == http.StatusUnauthorized):
		t.Errorf("WWW-Authenticate is %q", got.header.Values("Www-Authenticate"))
	}
}

// covers holds the grid against the kinds of the configuration's schema.
func covers(t *testing.T, cells []cell) {
	t.Helper()
	kinds := []string{"peer-signature", "api_key_claim"} // parts of peer and jwt
	fields := (&configv1.Authenticator{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range fields.Len() {
		kinds = append(kinds, string(fields.Get(i).Name()))
	}
	have := map[[2]string]bool{}
	for _, c := range cells {
		have[[2]string{c.kind, c.state}] = true
	}
	for _, kind := range kinds {
		for _, state := range states {
			at := [2]string{kind, state}
			if why := cannotBe[at]; have[at] == (why != "") {
				t.Errorf("%s, %s: proven %v, cannot be %q: want one of the two", kind, state, have[at], why)
			}
		}
	}
}

// send asks with headers, "name: value" each.
func (w *world) send(headers ...string) func(*testing.T) reply {
	return w.sendFrom("127.0.0.1", headers...)
}

func (w *world) sendFrom(source string, headers ...string) func(*testing.T) reply {
	return func(t *testing.T) reply {
		t.Helper()
		answer := harness.SendFrom(t, source, w.envoy.Address(t, "plain"), "GET /x", headers...)
		return reply{answer.Status, answer.Header, answer.Upstream}
	}
}

// again asks twice and gives the second answer.
func again(t *testing.T, ask func(*testing.T) reply) func(*testing.T) reply {
	t.Helper()
	return func(t *testing.T) reply {
		t.Helper()
		if first := ask(t); first.status != http.StatusOK {
			t.Fatalf("the first time: status %d", first.status)
		}
		return ask(t)
	}
}

// once asks twice, and fails unless the provider was asked about the credential once.
func (w *world) once(t *testing.T, credential string, ask func(*testing.T) reply) func(*testing.T) reply {
	t.Helper()
	return func(t *testing.T) reply {
		t.Helper()
		got := again(t, ask)(t)
		if n := w.provider.times(credential); n != 1 {
			t.Errorf("the provider was asked %d times, want once", n)
		}
		return got
	}
}

func basic(header, user string) string {
	return header + ": Basic " + base64.StdEncoding.EncodeToString([]byte(user))
}

func decode(text string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}

// known waits until the store and the key set are known to gatehouse.
func (w *world) known(t *testing.T) {
	t.Helper()
	token := w.issuer.Token(nil)
	harness.Eventually(t, 30*time.Second, func() error {
		if got := w.send("x-jwt: " + token)(t); got.status != http.StatusOK {
			return fmt.Errorf("status %d", got.status)
		}
		return nil
	})
}

// secrets are kinds whose secrets are in the file or in our store.
func (w *world) secrets(t *testing.T) []cell {
	t.Helper()
	past := time.Now().Add(-time.Second)
	token, old, revoked := w.give(t, tokens.APIToken, "tom", time.Time{}), w.give(t, tokens.APIToken, "tom", past), w.give(t, tokens.APIToken, "tom", time.Time{})
	unasked := w.give(t, tokens.APIToken, "una", time.Time{})
	key, oldKey, unaskedKey := w.give(t, tokens.APIKey, "kay", time.Time{}), w.give(t, tokens.APIKey, "kay", past), w.give(t, tokens.APIKey, "una", time.Time{})
	if _, err := w.store.Revoke(t.Context(), revoked.ID(), operator); err != nil {
		t.Fatal(err)
	}
	text := token.Reveal()
	forged := tokens.NewCredential().Reveal() // its id is nobody's, its checksum right
	return []cell{
		{"api_key", "accepted", "of the file", w.send("x-api-key: " + fileKey), 200, "file"},
		{"api_key", "accepted", "of the store", w.send("x-api-key: " + key.Reveal()), 200, "kay"},
		{"api_key", "refused", "a token of the store is no key", w.send("x-api-key: " + text), 401, "api_key_unknown"},
		{"api_key", "forged", "one character is another", w.send("x-api-key: " + fileKey[:len(fileKey)-1] + "8"), 401, "api_key_unknown"},
		{"api_key", "forged", "nobody has this key of ours", w.send("x-api-key: " + forged), 401, "api_key_unknown"},
		{"api_key", "expired", "of the store", w.send("x-api-key: " + oldKey.Reveal()), 401, "expired"},
		{"api_key", "replayed", "a key is good as often as one likes", again(t, w.send("x-api-key: "+fileKey)), 200, "file"},
		{"api_key", "outage", "of the store", w.send("x-api-key: " + unaskedKey.Reveal()), 503, "store_unavailable"},
		{"api_key", "outage", "of the store, for a key of the file", w.send("x-api-key: " + fileKey), 200, "file"},

		{"token", "accepted", "as given", w.send("x-token: " + text), 200, "tom"},
		{"token", "refused", "revoked", w.send("x-token: " + revoked.Reveal()), 401, "token_revoked"},
		{"token", "refused", "a key is no token", w.send("x-token: " + key.Reveal()), 401, "token_unknown"},
		{"token", "forged", "nobody gave it", w.send("x-token: " + forged), 401, "token_unknown"},
		{"token", "forged", "the id of one and the secret of another", w.send("x-token: " + spliced(t, token, unasked)), 401, "token_malformed"},
		{"token", "expired", "a second ago", w.send("x-token: " + old.Reveal()), 401, "expired"},
		{"token", "replayed", "a token is good as often as one likes", again(t, w.send("x-token: "+text)), 200, "tom"},
		{"token", "outage", "not asked about before", w.send("x-token: " + unasked.Reveal()), 503, "store_unavailable"},
		{"token", "outage", "mistyped needs no store", w.send("x-token: " + text[:len(text)-1] + "-"), 401, "token_malformed"},

		{"basic", "accepted", "the right password", w.send(basic("authorization", "adam:right")), 200, "adam"},
		{"basic", "refused", "a wrong password", w.send(basic("authorization", "adam:wrong")), 401, "password_wrong"},
		{"basic", "refused", "no password", w.send(basic("authorization", "adam:")), 401, "password_wrong"},
		{"basic", "forged", "somebody who does not exist", w.send(basic("authorization", "eve:right")), 401, "password_wrong"},
		{"basic", "replayed", "a password is good as often as one likes", again(t, w.send(basic("authorization", "adam:right"))), 200, "adam"},
	}
}

// spliced is the id of one credential before the secret of another.
func spliced(t *testing.T, id, secret tokens.Credential) string {
	t.Helper()
	a, b := id.Reveal(), secret.Reveal()
	at := strings.LastIndexByte(a, '_')
	return a[:at] + b[strings.LastIndexByte(b, '_'):]
}

// remotes are kinds that ask a provider.
func (w *world) remotes(t *testing.T) []cell {
	t.Helper()
	client := func(name string) func(*testing.T) reply { return w.send(basic("x-client", name+":secret")) }
	opaque := func(name string) func(*testing.T) reply { return w.send("x-opaque: " + name) }
	offline := func(name string) func(*testing.T) reply { return w.send("x-offline: " + w.provider.offline(name)) }
	who := func(name string) func(*testing.T) reply { return w.send("x-who: " + name) }
	return []cell{
		{"client_credentials", "accepted", "a client of the issuer", client("cleo"), 200, "cleo"},
		{"client_credentials", "refused", "the issuer does not know it", client("unknown-client"), 401, "exchange_refused"},
		{"client_credentials", "forged", "the token that comes back is signed by somebody else", client("forged-client"), 401, "signature_invalid"},
		{"client_credentials", "expired", "the token that comes back has expired", client("expired-client"), 401, "expired"},
		{"client_credentials", "replayed", "the second time asks nobody", w.once(t, "token again", client("again")), 200, "again"},
		{"client_credentials", "outage", "of the token endpoint", client("newcomer"), 503, "provider_unavailable"},
		{"client_credentials", "outage", "for one that was exchanged before", client("cleo"), 200, "cleo"},

		{"introspection", "accepted", "an active token", opaque("olga"), 200, "olga"},
		{"introspection", "refused", "an inactive token", opaque("inactive"), 401, "token_inactive"},
		{"introspection", "refused", "for another audience", opaque("elsewhere"), 401, "audience_mismatch"},
		{"introspection", "forged", "nobody gave it", opaque("inactive-made-up"), 401, "token_inactive"},
		{"introspection", "expired", "active, and past its exp", opaque("ended"), 401, "expired"},
		{"introspection", "replayed", "the second time asks nobody", w.once(t, "introspect opaque-again", opaque("opaque-again")), 200, "opaque-again"},
		{"introspection", "outage", "of the endpoint", opaque("newcomer"), 503, "provider_unavailable"},
		{"introspection", "outage", "for one that is known", opaque("olga"), 200, "olga"},

		{"refresh_token", "accepted", "an offline token", offline("otto"), 200, "otto"},
		{"refresh_token", "refused", "inactive", offline("inactive-offline"), 401, "token_inactive"},
		{"refresh_token", "refused", "without the scope", offline("narrow"), 401, "claim_missing"},
		{"refresh_token", "refused", "active, and not exchanged", offline("unknown-offline"), 401, "exchange_refused"},
		{"refresh_token", "forged", "the token that comes back is signed by somebody else", offline("forged-offline"), 401, "signature_invalid"},
		{"refresh_token", "forged", "a JWT of another kind", w.send("x-offline: " + w.issuer.Token(nil)), 401, "unknown_issuer"},
		{"refresh_token", "expired", "past its exp", offline("ended-offline"), 401, "expired"},
		{"refresh_token", "expired", "the token that comes back has expired", offline("expired-offline"), 401, "expired"},
		{"refresh_token", "replayed", "the second time asks nobody", w.once(t, "token offline-again", offline("offline-again")), 200, "offline-again"},
		{"refresh_token", "outage", "of the endpoints", offline("newcomer-offline"), 503, "provider_unavailable"},
		{"refresh_token", "outage", "for one that was exchanged before", offline("otto"), 200, "otto"},

		{"lookup", "accepted", "the service knows it", who("wanda"), 200, "wanda"},
		{"lookup", "refused", "the service does not know it", who("unknown"), 401, "provider_refused"},
		{"lookup", "forged", "made up", who("unknown-made-up"), 401, "provider_refused"},
		{"lookup", "expired", "the service has forgotten it when it is asked again", w.forgotten(t, who("fleeting")), 401, "provider_refused"},
		{"lookup", "replayed", "the second time asks nobody", w.once(t, "who who-again", who("who-again")), 200, "who-again"},
		{"lookup", "outage", "of the service", who("newcomer"), 503, "provider_unavailable"},
	}
}

// forgotten asks until what is kept of the first answer counts no longer.
func (w *world) forgotten(t *testing.T, ask func(*testing.T) reply) func(*testing.T) reply {
	t.Helper()
	return func(t *testing.T) (last reply) {
		t.Helper()
		if first := ask(t); first.status != http.StatusOK {
			t.Fatalf("the first time: status %d", first.status)
		}
		harness.Eventually(t, 10*time.Second, func() error {
			if last = ask(t); last.status == http.StatusOK {
				return fmt.Errorf("it is still known")
			}
			return nil
		})
		return last
	}
}

// peers are kinds of machines that know each other.
func (w *world) peers(t *testing.T) []cell {
	t.Helper()
	token := func(secret string, claims jwt.MapClaims) string {
		return strings.Replace(peerToken(t, jwt.SigningMethodHS256, secret, claims), "authorization: Bearer ", "x-peer: ", 1)
	}
	good := token(peerSecret, jwt.MapClaims{"peer": "pete"})
	const orders = "spiffe://cluster.local/ns/acme/sa/orders"
	return []cell{
		{"peer", "accepted", "a peer", w.send(good), 200, "pete"},
		{"peer", "refused", "no peer is named", w.send(token(peerSecret, jwt.MapClaims{"sub": "a"})), 401, "claim_missing"},
		{"peer", "refused", "from an address that is no peer's, nor that of a name that does not resolve", w.sendFrom("127.0.0.12", good), 403, "origin_refused"},
		{"peer", "forged", "by another secret", w.send(token("x", jwt.MapClaims{"peer": "pete"})), 401, "signature_invalid"},
		{"peer", "expired", "a minute ago", w.send(token(peerSecret, jwt.MapClaims{"peer": "pete", "exp": time.Now().Unix() - 60})), 401, "expired"},
		{"peer", "replayed", "from the same address it is the same peer", again(t, w.send(good)), 200, "pete"},
		{"peer", "replayed", "from another address it is worth nothing", w.sendFrom("127.0.0.2", good), 403, "origin_refused"},

		{"peer-signature", "accepted", "a signed request", w.signed(t, signer(), nil), 200, "cluster"},
		{"peer-signature", "refused", "the body is not covered", w.signed(t, &peersign.Signer{KeyID: "cluster", Secret: []byte(peerSecret), Components: []string{"@method", "@target-uri"}}, nil), 401, "peer_signature_invalid"},
		{"peer-signature", "refused", "another body", w.signed(t, signer(), func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }), 401, "digest_mismatch"},
		{"peer-signature", "forged", "by another secret", w.signed(t, &peersign.Signer{KeyID: "cluster", Secret: []byte("x")}, nil), 401, "peer_signature_invalid"},
		{"peer-signature", "forged", "by another key id", w.signed(t, &peersign.Signer{KeyID: "other", Secret: []byte(peerSecret)}, nil), 401, "no_credential"},
		{"peer-signature", "expired", "signed a minute ago", w.signed(t, &peersign.Signer{KeyID: "cluster", Secret: []byte(peerSecret), Now: func() time.Time { return time.Now().Add(-time.Minute) }}, nil), 401, "peer_stale"},
		{"peer-signature", "replayed", "the nonce again", again(t, w.signed(t, &peersign.Signer{KeyID: "cluster", Secret: []byte(peerSecret), Nonce: func() string { return "twice" }}, nil)), 401, "peer_replayed"},
		{"peer-signature", "outage", "of the store that has the nonces", w.signed(t, signer(), nil), 503, "store_unavailable"},

		{"mtls", "accepted", "a service", w.presents(w.mesh.client(orders), ""), 200, "orders"},
		{"mtls", "refused", "of another trust domain", w.presents(w.mesh.client("spiffe://evil.local/ns/acme/sa/orders"), ""), 401, "certificate_unmatched"},
		{"mtls", "forged", "a header is no certificate", w.presents(nil, "By=spiffe://x;URI="+orders), 401, "no_credential"},
		{"mtls", "forged", "of another authority, which Envoy does not let in", w.presents(newAuthority(t).client(orders), ""), 0, ""},
		{"mtls", "expired", "which Envoy does not let in", w.presents(w.mesh.expired(orders), ""), 0, ""},
		{"mtls", "replayed", "each connection proves that it has the key", again(t, w.presents(w.mesh.client(orders), "")), 200, "orders"},
	}
}

// signed signs a new request each time, and sends it.
func (w *world) signed(t *testing.T, by *peersign.Signer, tamper func(*http.Request)) func(*testing.T) reply {
	t.Helper()
	return func(t *testing.T) reply {
		t.Helper()
		r := signedRequest(t, by, "POST", "/synchronize?since=1", `{"hello": "world"}`)
		if tamper != nil {
			tamper(r)
		}
		return w.do(t, "plain", r, nil)
	}
}

// presents connects with a certificate.
func (w *world) presents(certificate *tls.Certificate, forwarded string) func(*testing.T) reply {
	return func(t *testing.T) reply {
		t.Helper()
		r, err := http.NewRequest("GET", "https://mesh.example/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if forwarded != "" {
			r.Header.Set("X-Forwarded-Client-Cert", forwarded)
		}
		return w.do(t, "certificates", r, certificate)
	}
}

// do sends a request of Go's client to a front, whatever host it names. Its status is 0
// where Envoy does not let the connection come about.
func (w *world) do(t *testing.T, front string, r *http.Request, certificate *tls.Certificate) reply {
	t.Helper()
	r.Host, r.URL.Host = r.URL.Host, w.envoy.Address(t, front)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if certificate != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return reply{}
	}
	defer response.Body.Close()
	got := reply{status: response.StatusCode, header: response.Header}
	if response.Header.Get("X-Upstream") == "echo" {
		got.upstream = received(t, response.Body)
	}
	return got
}

// jwts are kinds that are a JWT.
func (w *world) jwts(t *testing.T) []cell {
	t.Helper()
	past := time.Now().Add(-time.Second)
	token := func(claims map[string]any) func(*testing.T) reply { return w.send("x-jwt: " + w.issuer.Token(claims)) }
	key, old, unasked := w.give(t, tokens.APIKey, "kim", time.Time{}), w.give(t, tokens.APIKey, "kim", past), w.give(t, tokens.APIKey, "una", time.Time{})
	claim := func(key any, more map[string]any) map[string]any {
		claims := w.issuer.Claims(more)
		claims["apikey"] = key
		return claims
	}
	with := func(claims map[string]any) func(*testing.T) reply {
		return w.send("x-key-claim: " + w.issuer.Current().Token(claims))
	}
	expired := map[string]any{"iat": time.Now().Unix() - 60, "exp": time.Now().Unix() - 1}
	gone := w.forger.Token(map[string]any{"iss": "http://127.0.0.1:1/gone", "aud": "orders", "sub": "a", "exp": time.Now().Unix() + 60})
	return []cell{
		{"jwt", "accepted", "of the issuer", token(nil), 200, "alice"},
		{"jwt", "refused", "for another audience", token(map[string]any{"aud": "billing"}), 401, "audience_mismatch"},
		{"jwt", "refused", "of another issuer", token(map[string]any{"iss": "https://other.example.com"}), 401, "unknown_issuer"},
		{"jwt", "forged", "signed by somebody else", w.send("x-jwt: " + w.forger.Token(w.issuer.Claims(nil))), 401, "signature_invalid"},
		{"jwt", "expired", "a second ago", token(expired), 401, "expired"},
		{"jwt", "replayed", "a token is good as often as one likes", again(t, token(nil)), 200, "alice"},
		{"jwt", "outage", "of an issuer that nobody has heard of since the start", w.send("x-jwt-gone: " + gone), 503, "keys_unavailable"},

		{"api_key_claim", "accepted", "the key is the caller", with(claim(key.Reveal(), nil)), 200, "kim by api_key"},
		{"api_key_claim", "accepted", "without a key the token's subject is", with(w.issuer.Claims(nil)), 200, "alice"},
		{"api_key_claim", "refused", "nobody has this key", with(claim(tokens.NewCredential().Reveal(), nil)), 401, "api_key_unknown"},
		{"api_key_claim", "forged", "signed by somebody else", w.send("x-key-claim: " + w.forger.Token(claim(key.Reveal(), nil))), 401, "signature_invalid"},
		{"api_key_claim", "expired", "the token", with(claim(key.Reveal(), expired)), 401, "expired"},
		{"api_key_claim", "expired", "the key", with(claim(old.Reveal(), nil)), 401, "expired"},
		{"api_key_claim", "replayed", "it is good as often as one likes", again(t, with(claim(key.Reveal(), nil))), 200, "kim by api_key"},
		{"api_key_claim", "outage", "of the store that has the keys", with(claim(unasked.Reveal(), nil)), 503, "store_unavailable"},
	}
}

// received is what the upstream says that it received.
func received(t *testing.T, body io.Reader) *echo.Received {
	t.Helper()
	var got echo.Received
	if err := json.NewDecoder(body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return &got
}
