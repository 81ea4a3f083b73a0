package authn

import (
	"testing"
)

// TestKept: whoever calls [Set.Authenticate] learns what authenticators may go on with.
func TestKept(t *testing.T) {
	unknown := accepts("a")
	remote := func(name string) Entry {
		return Entry{Name: name, Kind: KindLookup, Authenticator: unknown, Places: []Place{bearer}, TryInTurn: true}
	}
	tokens := Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer}}
	stored, err := NewAPIKey(Stamp{Authenticator: "stored"}, nil, StoredKeys{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		entries []Entry
		header  string
		value   string
		want    Kept
	}{
		{"a token, by whoever verifies", []Entry{tokens}, "authorization", "Bearer " + sign(t, "https://corp", "eve"), KeptNothing},
		{"a key that is configured", []Entry{{Name: "k", Kind: KindAPIKey, Authenticator: testKeys(t, "k", "good"), Places: []Place{keyPlace}}}, "x-api-key", "bad", KeptNothing},
		{"nothing", []Entry{remote("a")}, "x-other", "x", KeptNothing},
		{"what is asked elsewhere", []Entry{remote("a")}, "authorization", "Bearer opaque", KeptTexts},
		{"a token beside what is asked elsewhere", []Entry{tokens, remote("a")}, "authorization", "Bearer " + sign(t, "https://corp", "eve"), KeptNothing},
		{"what several are asked at once", []Entry{remote("a"), remote("b")}, "authorization", "Bearer opaque", KeptRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testSet(t, Options{}, tt.entries...)
			a, err := s.Accept(nil)
			if err != nil {
				t.Fatal(err)
			}
			in := &Input{Request: request(tt.header, tt.value), Now: testNow}
			for range 2 { // never seen, and seen
				s.Authenticate(t.Context(), a, in)
				if in.Kept() != tt.want {
					t.Errorf("kept %v, want %v", in.Kept(), tt.want)
				}
			}
		})
	}
	for _, tt := range []struct {
		name string
		a    Authenticator
		want bool
	}{
		{"keys of a store, which is asked with them", stored, false},
		{"a key within a token, which is shown to its own authenticator", &KeyClaim{}, false},
		{"a peer", &Peer{}, false},
		{"passwords", &Basic{}, false},
		{"tokens of the store", &Token{}, false},
		{"introspection", &Introspection{}, false},
		{"exchange", &RefreshToken{}, false},
		{"tokens", &JWT{}, true},
	} {
		if got := isDiscreet(tt.a); got != tt.want {
			t.Errorf("%s: discreet is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestKeyOfInput: what an input remembers is the key of the credential that is asked for.
func TestKeyOfInput(t *testing.T) {
	one, other := NewCacheKeys(), NewCacheKeys()
	in := &Input{}
	for _, credential := range []string{"a", "a", "b", "", "b"} {
		for _, keys := range []*CacheKeys{one, one, other} {
			if got := in.cacheKey(keys, credential); got != keys.Key(credential) {
				t.Errorf("the key of %q is that of another credential or of other keys", credential)
			}
		}
	}
}
