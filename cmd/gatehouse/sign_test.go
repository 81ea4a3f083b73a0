package main

import (
	"bufio"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestSign has a peer authenticator verify what the command printed.
func TestSign(t *testing.T) {
	env := map[string]string{"PEER_SECRET": "abracadabra"}
	got := runEnv(t, env, `{"x": 1}`, "sign", "--key-id", "cluster", "--secret-env", "PEER_SECRET", "--body", "-", "POST", "https://peer.example/synchronize?since=1")
	if got.code != exitOK {
		t.Fatalf("exit %d, %s", got.code, got.err)
	}
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(got.out + "\n"))).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := authn.NewPeer(authn.PeerOptions{Stamp: authn.Stamp{Authenticator: "peers", Realm: "peers"},
		Signature: &authn.PeerSignatureOptions{KeyID: "cluster", Secret: authn.NewSecret("abracadabra")}})
	if err != nil {
		t.Fatal(err)
	}
	in := &authn.Input{Now: time.Now(), Authority: "peer.example", Target: "/synchronize?since=1", Body: []byte(`{"x": 1}`), Request: &policy.Request{Method: "POST", Scheme: "https"}}
	for name, values := range http.Header(header) {
		in.Request.Headers = append(in.Request.Headers, policy.Pair{Name: strings.ToLower(name), Value: values[0]})
	}
	if result := peer.Authenticate(t.Context(), in); result.Identity == nil {
		t.Errorf("sign printed\n%s\nwhich is refused: %v (%v)", got.out, result.Reason, result.Detail)
	}
	if strings.Contains(got.out+got.err, "abracadabra") {
		t.Error("the secret was printed")
	}
	for _, args := range [][]string{
		{"sign", "--key-id", "cluster", "--secret-env", "PEER_SECRET", "POST"},
		{"sign", "--key-id", "cluster", "POST", "https://peer.example/"},
		{"sign", "--key-id", "cluster", "--secret-env", "UNSET", "POST", "https://peer.example/"},
		{"sign", "--secret-env", "PEER_SECRET", "POST", "https://peer.example/"},
		{"sign", "--key-id", "cluster", "--secret-env", "PEER_SECRET", "POST", "/synchronize"},
		{"sign", "--key-id", "cluster", "--secret-env", "PEER_SECRET", "--components", "@status", "POST", "https://peer.example/"},
	} {
		if got := runEnv(t, env, "", args...); got.code == exitOK || got.out != "" {
			t.Errorf("%q: exit %d, %q", args, got.code, got.out)
		}
	}
}
