package authn

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
	"github.com/gatehouse-authz/gatehouse/policy"
)

var peerStamp = Stamp{Authenticator: "cluster", Realm: "cluster"}

func testOrigins(t *testing.T, peers ...string) *Origins {
	t.Helper()
	o, err := NewOrigins(peers, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func TestPeerTokens(t *testing.T) {
	peer, err := NewPeer(PeerOptions{Stamp: peerStamp, Secret: NewSecret("abracadabra"), Origins: testOrigins(t, "10.0.0.1"), Principal: policy.Principal{Roles: []string{"peer"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(peer.Warnings()) == 0 {
		t.Error("a secret of 11 bytes gives no warning")
	}
	s := testSet(t, Options{},
		Entry{Name: "cluster", Kind: KindPeer, Authenticator: peer, Places: []Place{bearer}},
		Entry{Name: "users", Kind: KindJWT, Authenticator: testJWT(t, "users", "https://corp"), Places: []Place{bearer}},
	)
	const known = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJwZWVyIjoic29tZS5mcWRuLmNvbSJ9.aUyykxiKi1eF1i1UQO3ef7QSFxk_xko2NDCsQMIuIpQ"
	token := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	secret := []byte("abracadabra")
	for _, tt := range []struct{ name, token, source, want string }{
		{"the known token", known, "10.0.0.1", "some.fqdn.com"},
		{"IPv4 in IPv6", known, "::ffff:10.0.0.1", "some.fqdn.com"},
		{"with an expiry", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"peer": "a", "exp": testNow.Unix() + 60}), "10.0.0.1", "a"},
		{"from an address that begins alike", known, "10.0.0.12", "origin_refused by cluster"},
		{"from nowhere", known, "", "origin_refused by cluster"},
		{"a wrong secret from elsewhere", token(jwt.SigningMethodHS256, []byte("x"), jwt.MapClaims{"peer": "a"}), "10.0.0.2", "signature_invalid by cluster"},
		{"a wrong secret", token(jwt.SigningMethodHS256, []byte("abracadabr"), jwt.MapClaims{"peer": "a"}), "10.0.0.1", "signature_invalid by cluster"},
		{"HS512", token(jwt.SigningMethodHS512, secret, jwt.MapClaims{"peer": "a"}), "10.0.0.1", "unknown_issuer by cluster"},
		{"none", token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"peer": "a"}), "10.0.0.1", "token_malformed by cluster"},
		{"no peer", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "a"}), "10.0.0.1", "claim_missing by cluster"},
		{"an empty peer", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"peer": ""}), "10.0.0.1", "claim_type by cluster"},
		{"a peer that is a list", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"peer": []string{"a"}}), "10.0.0.1", "claim_type by cluster"},
		{"an issuer makes it somebody else's", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"peer": "a", "iss": "https://evil"}), "10.0.0.1", "unknown_issuer by cluster"},
		{"expired", token(jwt.SigningMethodHS256, secret, jwt.MapClaims{"peer": "a", "exp": testNow.Unix() - 60}), "10.0.0.1", "expired by cluster"},
		{"a user's token", sign(t, "https://corp", "eve"), "10.0.0.1", "eve"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("authorization", "Bearer "+tt.token)
			if tt.source != "" {
				r.Source = netip.MustParseAddr(tt.source)
			}
			for range 2 { // the second time from the cache
				if got := who(t, s, nil, r); got != tt.want {
					t.Errorf("Authenticate = %s, want %s", got, tt.want)
				}
			}
		})
	}

	t.Run("require_expiry", func(t *testing.T) {
		strict, err := NewPeer(PeerOptions{Stamp: peerStamp, Secret: NewSecret("abracadabra"), RequireExpiry: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := strict.Authenticate(t.Context(), &Input{Value: known, Request: request(), Now: testNow}); got.Reason != policy.ReasonExpiryMissing {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	t.Run("an empty list admits nobody", func(t *testing.T) {
		closed, err := NewPeer(PeerOptions{Stamp: peerStamp, Secret: NewSecret("abracadabra"), Origins: testOrigins(t)})
		if err != nil {
			t.Fatal(err)
		}
		r := request()
		r.Source = netip.MustParseAddr("10.0.0.1")
		if got := closed.Authenticate(t.Context(), &Input{Value: known, Request: r, Now: testNow}); got.Reason != policy.ReasonOriginRefused {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	t.Run("not strict", func(t *testing.T) {
		open, err := NewPeer(PeerOptions{Stamp: peerStamp, Secret: NewSecret("abracadabra")})
		if err != nil {
			t.Fatal(err)
		}
		if got := open.Authenticate(t.Context(), &Input{Value: known, Request: request(), Now: testNow}); got.Identity == nil {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	if _, err := NewPeer(PeerOptions{Stamp: peerStamp}); err == nil {
		t.Error("a peer without secret and signature loads")
	}
}

func testSignature(t *testing.T, change func(*PeerSignatureOptions)) *Peer {
	t.Helper()
	o := PeerSignatureOptions{KeyID: "cluster", Secret: NewSecret(testSecret)}
	if change != nil {
		change(&o)
	}
	p, err := NewPeer(PeerOptions{Stamp: peerStamp, Signature: &o})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signed is what the gate sees of a request that a peer signed with our client.
func signed(t *testing.T, method, address, body string, change func(*peersign.Signer)) *Input {
	t.Helper()
	signer := &peersign.Signer{KeyID: "cluster", Secret: []byte(testSecret), Now: func() time.Time { return testNow }}
	if change != nil {
		change(signer)
	}
	r := httptest.NewRequest(method, address, strings.NewReader(body))
	if err := signer.Sign(r); err != nil {
		t.Fatal(err)
	}
	in := &Input{Now: testNow, Authority: r.Host, Target: r.URL.RequestURI(), Body: []byte(body), Request: &policy.Request{Method: method, Scheme: r.URL.Scheme, Path: r.URL.Path}}
	for name, values := range r.Header {
		for _, value := range values {
			in.Request.Headers = append(in.Request.Headers, policy.Pair{Name: strings.ToLower(name), Value: value})
		}
	}
	return in
}

func replace(in *Input, name string, change func(string) string) {
	for i := range in.Request.Headers {
		if h := &in.Request.Headers[i]; h.Name == name {
			h.Value = change(h.Value)
		}
	}
}

// digested has the peer sign another content-digest: format has the body's sha-256 and
// sha-512, in base64.
func digested(format string) func(*Input) {
	return func(in *Input) {
		short, long := sha256.Sum256(in.Body), sha512.Sum512(in.Body)
		field := strings.NewReplacer("%[1]s", base64.StdEncoding.EncodeToString(short[:]), "%[2]s", base64.StdEncoding.EncodeToString(long[:])).Replace(format)
		replace(in, "content-digest", func(string) string { return field })
		inputs, err := httpsfv.UnmarshalDictionary(fieldLines(in, "signature-input"))
		if err != nil {
			panic(err) // our own signer wrote it
		}
		list, _ := inputs.Get("sig1")
		base, err := peersign.Base(list.(httpsfv.InnerList), peerMessage(in))
		if err != nil {
			panic(err)
		}
		replace(in, "signature", func(string) string {
			return "sig1=:" + base64.StdEncoding.EncodeToString(peersign.MAC([]byte(testSecret), base)) + ":"
		})
	}
}

func TestPeerSignatures(t *testing.T) {
	set := func(name, value string) func(*Input) {
		return func(in *Input) { replace(in, name, func(string) string { return value }) }
	}
	drop := func(name string) func(*Input) {
		return func(in *Input) { replace(in, name, func(string) string { return "" }) }
	}
	extra := func(component string) func(*peersign.Signer) {
		return func(s *peersign.Signer) { s.Components = append([]string{component}, peersign.DefaultComponents...) }
	}
	at := func(d time.Duration) func(*peersign.Signer) {
		return func(s *peersign.Signer) { s.Now = func() time.Time { return testNow.Add(d) } }
	}
	for _, tt := range []struct {
		name   string
		signer func(*peersign.Signer)
		tamper func(*Input)
		reason policy.Reason
	}{
		{"as it was sent", nil, nil, 0},
		{"with more covered", extra("@authority"), nil, 0},
		{"a second signature by somebody else", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return `other=("@method");keyid="proxy", ` + v })
			replace(in, "signature", func(v string) string { return "other=:AAAA:, " + v })
		}, 0},

		{"another secret", func(s *peersign.Signer) { s.Secret = []byte("x") }, nil, policy.ReasonPeerSignature},
		{"another method", nil, func(in *Input) { in.Request.Method = "DELETE" }, policy.ReasonPeerSignature},
		{"another path", nil, func(in *Input) { in.Target = "/admin" }, policy.ReasonPeerSignature},
		{"another query", nil, func(in *Input) { in.Target += "&admin=1" }, policy.ReasonPeerSignature},
		{"another host", nil, func(in *Input) { in.Authority = "evil.example" }, policy.ReasonPeerSignature},
		{"another scheme", nil, func(in *Input) { in.Request.Scheme = "http" }, policy.ReasonPeerSignature},
		{"no request line", nil, func(in *Input) { in.Target, in.Authority = "", "" }, policy.ReasonPeerSignature},
		{"a component dropped", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return strings.Replace(v, ` "@target-uri"`, "", 1) })
		}, policy.ReasonPeerSignature},
		{"too little covered", func(s *peersign.Signer) { s.Components = []string{"@method", "@target-uri"} }, nil, policy.ReasonPeerSignature},
		{"another created", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return strings.Replace(v, "created=1", "created=2", 1) })
		}, policy.ReasonPeerSignature},
		{"another nonce", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return strings.Replace(v, `nonce="`, `nonce="x`, 1) })
		}, policy.ReasonPeerSignature},
		{"another algorithm", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return strings.Replace(v, "hmac-sha256", "rsa-v1_5-sha256", 1) })
		}, policy.ReasonPeerSignature},
		{"an algorithm that is no text", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return strings.Replace(v, `"hmac-sha256"`, "1", 1) })
		}, policy.ReasonPeerSignature},
		{"an empty signature", nil, set("signature", "sig1=::"), policy.ReasonPeerSignature},
		{"a signature that is a text", nil, set("signature", `sig1="abc"`), policy.ReasonPeerSignature},
		{"a signature of another label", nil, func(in *Input) {
			replace(in, "signature", func(v string) string { return strings.Replace(v, "sig1", "sig2", 1) })
		}, policy.ReasonPeerSignature},
		{"no signature", nil, drop("signature"), policy.ReasonPeerSignature},
		{"a signature that cannot be read", nil, set("signature", "sig1=:AAA"), policy.ReasonPeerSignature},
		{"an input that cannot be read", nil, set("signature-input", `sig1=("@method`), policy.ReasonPeerSignature},
		{"an input that is no list", nil, set("signature-input", `sig1=1;keyid="cluster"`), policy.ReasonPeerSignature},
		{"two signatures with one key", nil, func(in *Input) {
			replace(in, "signature-input", func(v string) string { return v + strings.Replace(", "+v, "sig1", "sig2", 1) })
		}, policy.ReasonPeerSignature},
		{"no nonce", func(s *peersign.Signer) { s.Nonce = func() string { return "" } }, nil, policy.ReasonPeerSignature},
		{"a huge nonce", func(s *peersign.Signer) { s.Nonce = func() string { return strings.Repeat("x", 129) } }, nil, policy.ReasonPeerSignature},

		{"as old as may be", at(-DefaultSignatureMaxAge), nil, 0},
		{"too old", at(-DefaultSignatureMaxAge - time.Second), nil, policy.ReasonPeerStale},
		{"ahead of our clock", at(DefaultSignatureLeeway), nil, 0},
		{"too far ahead", at(DefaultSignatureLeeway + time.Second), nil, policy.ReasonPeerStale},

		{"another body", nil, func(in *Input) { in.Body = []byte("{}") }, policy.ReasonDigestMismatch},
		{"no body", nil, func(in *Input) { in.Body = nil }, policy.ReasonDigestMismatch},
		{"a part of the body", nil, func(in *Input) { in.BodyPartial = true }, policy.ReasonBodyPartial},
		{"a body that the proxy keeps to itself", nil, func(in *Input) {
			in.Body = nil
			in.Request.Headers = append(in.Request.Headers, policy.Pair{Name: "content-length", Value: "12"})
		}, policy.ReasonBodyPartial},
		{"a body without a length that the proxy keeps to itself", nil, func(in *Input) {
			in.Body = nil
			in.Request.Headers = append(in.Request.Headers, policy.Pair{Name: "transfer-encoding", Value: "chunked"})
		}, policy.ReasonBodyPartial},
		{"another digest and its body", nil, func(in *Input) {
			in.Body = []byte("evil")
			sum := sha256.Sum256(in.Body)
			replace(in, "content-digest", func(string) string { return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":" })
		}, policy.ReasonPeerSignature},
		{"the components in another order", nil, func(in *Input) {
			replace(in, "signature-input", func(s string) string {
				return strings.Replace(s, `"@method" "@target-uri"`, `"@target-uri" "@method"`, 1)
			})
		}, policy.ReasonPeerSignature},
		{"a component twice", nil, func(in *Input) {
			replace(in, "signature-input", func(s string) string { return strings.Replace(s, `"@method"`, `"@method" "@method"`, 1) })
		}, policy.ReasonPeerSignature},
		{"a component with parameters", nil, func(in *Input) {
			replace(in, "signature-input", func(s string) string { return strings.Replace(s, `"@method"`, `"@method";req`, 1) })
		}, policy.ReasonPeerSignature},
		{"a component in another case", nil, func(in *Input) {
			replace(in, "signature-input", func(s string) string { return strings.Replace(s, `"@method"`, `"@Method"`, 1) })
		}, policy.ReasonPeerSignature},
		{"the components in another order, signed so", func(s *peersign.Signer) { s.Components = []string{"content-digest", "@target-uri", "@method"} }, nil, 0},
		// What a peer signed is its own word, and it has to be true.
		{"a digest of sha-512", nil, digested("sha-512=:%[2]s:"), 0},
		{"digests of both", nil, digested("sha-256=:%[1]s:, sha-512=:%[2]s:"), 0},
		{"one right digest and one wrong", nil, digested("sha-256=:%[1]s:, sha-512=:AAAA:"), policy.ReasonDigestMismatch},
		{"a digest that is another's", nil, digested("sha-256=:%[2]s:"), policy.ReasonDigestMismatch},
		{"an unknown digest beside a right one", nil, digested("md5=:AAAA:, sha-256=:%[1]s:"), 0},
		{"an unknown digest alone", nil, digested("md5=:AAAA:"), policy.ReasonDigestMismatch},
		{"a digest that is a text", nil, digested(`sha-256="%[1]s"`), policy.ReasonDigestMismatch},
		{"a digest that cannot be read", nil, digested("sha-256=:%[1]s"), policy.ReasonDigestMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := signed(t, "POST", "https://peers.example:8443/synchronize?since=1", `{"hello": 1}`, tt.signer)
			if tt.tamper != nil {
				tt.tamper(in)
			}
			p := testSignature(t, nil)
			if !p.Presented(in) {
				t.Error("the signature is not seen")
			}
			got := p.Authenticate(t.Context(), in)
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
				t.Errorf("Authenticate = %v, %v (%v), want %v", got.Identity, got.Reason, got.Detail, tt.reason)
			}
		})
	}
}

func TestPeerReplay(t *testing.T) {
	p := testSignature(t, nil)
	again := func(in *Input) *Input { c := *in; return &c }
	in := signed(t, "POST", "https://peers.example/synchronize", "x", nil)

	forged := again(in)
	forged.Request.Method = "DELETE"
	if got := p.Authenticate(t.Context(), forged); got.Reason != policy.ReasonPeerSignature {
		t.Errorf("a forged one: %v", got.Reason)
	}
	in.Request.Method = "POST"
	if got := p.Authenticate(t.Context(), in); got.Identity == nil {
		t.Errorf("a forged one uses up the nonce: %v (%v)", got.Reason, got.Detail)
	}
	for _, later := range []time.Duration{0, time.Second, DefaultSignatureMaxAge} {
		replay := again(in)
		replay.Now = testNow.Add(later)
		if got := p.Authenticate(t.Context(), replay); got.Reason != policy.ReasonPeerReplayed {
			t.Errorf("after %v: %v", later, got.Reason)
		}
	}
	late := again(in)
	late.Now = testNow.Add(DefaultSignatureMaxAge + time.Second)
	if got := p.Authenticate(t.Context(), late); got.Reason != policy.ReasonPeerStale {
		t.Errorf("after its time: %v", got.Reason)
	}
	if got := p.Authenticate(t.Context(), signed(t, "POST", "https://peers.example/synchronize", "x", nil)); got.Identity == nil {
		t.Errorf("the next one: %v (%v)", got.Reason, got.Detail)
	}
	broken := testSignature(t, func(o *PeerSignatureOptions) { o.Nonces = brokenNonces{} })
	if got := broken.Authenticate(t.Context(), signed(t, "GET", "https://peers.example/", "", nil)); got.Reason != policy.ReasonStoreUnavailable {
		t.Errorf("a store that is down: %v", got.Reason)
	}
	public := signed(t, "GET", "https://peers.example/", "", nil)
	public.Local = true
	if got := testSignature(t, nil).Authenticate(t.Context(), public); got.Identity == nil {
		t.Errorf("on a public route, with nonces in memory: %v", got.Reason)
	}
	if got := broken.Authenticate(t.Context(), public); !errors.Is(got.Detail, errLocal) {
		t.Errorf("on a public route, with nonces in a store: %v (%v)", got.Reason, got.Detail)
	}
}

type brokenNonces struct{}

func (brokenNonces) UseNonce(context.Context, string, string, time.Time, time.Time) (bool, error) {
	return false, errors.New("connection refused")
}

func TestNoncesAreForgotten(t *testing.T) {
	var n Nonces
	for i := range 1000 {
		now := testNow.Add(time.Duration(i) * time.Second)
		if fresh, err := n.UseNonce(t.Context(), "p", fmt.Sprint(i), now.Add(30*time.Second), now); !fresh || err != nil {
			t.Fatalf("nonce %d: %v, %v", i, fresh, err)
		}
	}
	if len(n.taken) > 45 {
		t.Errorf("%d nonces are remembered", len(n.taken))
	}
}

// TestSignatureOfOthers takes a request that Python's http-message-signatures 3.0.0
// signed.
func TestSignatureOfOthers(t *testing.T) {
	created := time.Unix(1764000000, 0)
	in := func() *Input {
		return &Input{
			Now: created.Add(time.Second), Authority: "Peers.Example:443", Target: "/synchronize?since=1&x=%2Fa", Body: []byte(`{"hello": "world"}`),
			Request: &policy.Request{Method: "POST", Scheme: "https", Headers: []policy.Pair{
				{Name: "content-type", Value: "application/json"},
				{Name: "x-two", Value: "a , b"},
				{Name: "content-length", Value: "18"},
				{Name: "content-digest", Value: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"},
				{Name: "signature-input", Value: `pyhms=("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" "@query" "content-digest" "x-two");created=1764000000;keyid="cluster";alg="hmac-sha256";nonce="a-nonce";tag="t"`},
				{Name: "signature", Value: "pyhms=:Furw4eGDlHkQih/oY+Ws8tUXeKsX4BHaSBQkc5opnSo=:"},
			}},
		}
	}
	if got := testSignature(t, nil).Authenticate(t.Context(), in()); got.Identity == nil || got.Identity.Principal.Subject != "cluster" {
		t.Errorf("Authenticate = %v (%v)", got.Reason, got.Detail)
	}
	other := in()
	other.Body = []byte(`{"hello": "World"}`)
	if got := testSignature(t, nil).Authenticate(t.Context(), other); got.Reason != policy.ReasonDigestMismatch {
		t.Errorf("another body: %v", got.Reason)
	}
}

func TestSignaturesBesideOtherCredentials(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "cluster", Kind: KindPeer, Authenticator: testSignature(t, nil)},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}},
	)
	a, err := s.Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(in *Input) string { return outcomeOf(s.Authenticate(t.Context(), a, in)) }
	key := policy.Pair{Name: "x-api-key", Value: "good"}

	in := signed(t, "GET", "https://peers.example/", "", nil)
	in.Request.Headers = append(in.Request.Headers, key)
	if got := ask(in); got != "cluster" {
		t.Errorf("a signature beside a key: %s", got)
	}
	if got := ask(in); got != "peer_replayed by cluster" {
		t.Errorf("a replay beside a key: %s", got)
	}
	if got := ask(&Input{Now: testNow, Request: request("x-api-key", "good", "signature-input", `a=("@method");keyid="proxy"`, "signature", "a=:AAAA:")}); got != "keys-good" {
		t.Errorf("a signature of somebody else beside a key: %s", got)
	}
	if got := ask(&Input{Now: testNow, Request: request("x-api-key", "good", "signature-input", "((")}); got != "peer_signature_invalid by cluster" {
		t.Errorf("a signature that cannot be read beside a key: %s", got)
	}
}

func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		name, peer string
		inside     string
		outside    []string
	}{
		{"an address", "10.0.0.1", "10.0.0.1", []string{"10.0.0.12", "10.0.0.0", "110.0.0.1"}},
		{"an address with white space", " 10.0.0.1\t", "10.0.0.1", nil},
		{"a network", "10.0.0.0/8", "10.255.0.1", []string{"11.0.0.1"}},
		{"a network by one of its addresses", "10.1.2.3/8", "10.0.0.1", []string{"11.0.0.1"}},
		{"with scheme, port and path", "https://10.0.0.1:8443/api/v1", "10.0.0.1", []string{"10.0.0.2"}},
		{"with a port", "10.0.0.1:80", "10.0.0.1", []string{"10.0.0.2"}},
		{"a scheme makes digits a path", "http://10.0.0.1/8", "10.0.0.1", []string{"10.0.0.2"}},
		{"IPv6", "2001:db8::1", "2001:db8:0::1", []string{"2001:db8::12"}},
		{"IPv6 with a port", "[2001:db8::1]:80", "2001:db8::1", nil},
		{"IPv6 in brackets", "[2001:db8::1]", "2001:db8::1", nil},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", "10.0.0.1", []string{"10.0.0.2"}},
		{"a network of IPv4 in IPv6", "::ffff:10.0.0.0/104", "10.1.1.1", []string{"11.0.0.1"}},
		{"a zone", "fe80::1%eth0", "fe80::1", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := testOrigins(t, tt.peer)
			if !o.Contains(netip.MustParseAddr(tt.inside)) {
				t.Errorf("%q does not contain %s", tt.peer, tt.inside)
			}
			for _, outside := range append(tt.outside, "192.0.2.1", "::") {
				if o.Contains(netip.MustParseAddr(outside)) {
					t.Errorf("%q contains %s", tt.peer, outside)
				}
			}
			if o.Contains(netip.Addr{}) {
				t.Errorf("%q contains nothing", tt.peer)
			}
		})
	}
	for _, peer := range []string{"10.0.0.1/33", "10.0.0", "1.2.3.4.5", "a b", "*", "*.example", "user@host", "host:http", "-a.example", "a..b", "10.0.0.1-10.0.0.9", "ä.example"} {
		if o, err := NewOrigins([]string{peer}, nil, 0); err == nil {
			t.Errorf("NewOrigins(%q) = networks %v, hosts %v", peer, o.networks, o.hosts)
		}
	}
	for _, nobody := range [][]string{nil, {""}, {" ", "https:///x"}} {
		if o := testOrigins(t, nobody...); !o.Empty() || o.Contains(netip.MustParseAddr("10.0.0.1")) {
			t.Errorf("NewOrigins(%q) admits somebody", nobody)
		}
	}
}

// names is a [Resolver] that a test changes.
type names map[string]func() ([]netip.Addr, error)

func (n names) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if f := n[network+" "+host]; f != nil {
		return f()
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestOriginsResolveAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.2")
		type answer struct {
			addresses []netip.Addr
			err       error
		}
		var current atomic.Pointer[answer]
		says := func(err error, addresses ...netip.Addr) { current.Store(&answer{addresses, err}) }
		says(nil, first)
		n := names{"ip peer.example": func() ([]netip.Addr, error) { a := current.Load(); return a.addresses, a.err }}
		o, err := NewOrigins([]string{"https://Peer.Example.:443/x", "gone.example"}, n, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		check := func(when string, wantFirst, wantSecond bool) {
			t.Helper()
			synctest.Wait()
			if o.Contains(first) != wantFirst || o.Contains(netip.MustParseAddr("10.0.0.2")) != wantSecond {
				t.Errorf("%s: %v and %v, want %v and %v", when, o.Contains(first), o.Contains(second), wantFirst, wantSecond)
			}
		}
		check("before it starts", false, false)
		o.Start()
		check("at the start", true, false)
		says(nil, second)
		time.Sleep(time.Minute)
		check("after a change", false, true)
		says(&net.DNSError{Err: "server misbehaving", IsTemporary: true})
		time.Sleep(time.Minute)
		check("while the name server is out of order", false, true)
		time.Sleep(resolveStaleRounds * time.Minute)
		check("when it is so for long", false, false)
		says(nil, second)
		time.Sleep(time.Minute)
		check("when it is back", false, true)
		says(&net.DNSError{Err: "no such host", IsNotFound: true})
		time.Sleep(time.Minute)
		check("when the name is gone", false, false)
	})
}
