package authn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxPublishedKeys bounds how many members of a set are looked at; real sets have one
// to ten.
const maxPublishedKeys = 256

// keyName is what a token chooses its key by.
type keyName struct{ id, algorithm string }

// A keySnapshot is a key set as one fetch found it. It does not change; its zero value
// holds nothing and serves nobody.
type keySnapshot struct {
	byName  map[keyName]*verificationKey
	only    map[string]*verificationKey // by algorithm; nil where there are several
	known   map[string]error            // key ids of the set: nil, or why the key is not used
	keys    int                         // usable keys
	refused []string
	issuer  string // as discovery named it
	address string // of the keys

	failing   bool      // the last fetch failed; this is the set before
	goodUntil time.Time // while failing
}

// parseKeySet reads a published key set (RFC 7517 §5). Keys that may not verify
// tokens, are weak or not to the letter are left out, and the others stay. A set
// without one usable key is an error: it is a mistake or an error page, and must not
// replace a good one.
func parseKeySet(body []byte, allowed []algorithm) (*keySnapshot, error) {
	members, err := objectMembers(body)
	if err != nil {
		return nil, err
	}
	raw, ok := members["keys"]
	if !ok {
		return nil, errors.New("it has no keys member")
	}
	elements, err := listElements(raw)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if len(elements) > maxPublishedKeys {
		return nil, fmt.Errorf("it has more than %d keys", maxPublishedKeys)
	}
	set := &keySnapshot{
		byName: make(map[keyName]*verificationKey),
		only:   make(map[string]*verificationKey),
		known:  make(map[string]error),
	}
	families := make(map[[sha256.Size]byte]keyFamily)
	for i, element := range elements {
		published, err := parseJWK(element, allowed)
		if err == nil {
			err = published.claim(families)
		}
		if err != nil {
			set.refuse(fmt.Sprintf("key %d: %v", i+1, err))
			if _, known := set.known[published.keyID]; published.hasKeyID && !known {
				set.known[published.keyID] = err
			}
			continue
		}
		set.add(published, i+1)
	}
	set.count()
	if set.keys == 0 {
		return nil, fmt.Errorf("none of its %d keys can be used%s", len(elements), set.firstRefusal())
	}
	return set, nil
}

// claim notes the family that the key is put to, and fails if the same key, under
// whatever name, was put to another before.
func (p *publishedKey) claim(families map[[sha256.Size]byte]keyFamily) error {
	first := p.bindings[0]
	family := first.algorithm.family
	if taken, ok := families[first.material]; ok && taken != family {
		return errors.New("the same key is published for another family of algorithms as well")
	}
	families[first.material] = family
	return nil
}

func (s *keySnapshot) refuse(why string) { s.refused = append(s.refused, why) }

func (s *keySnapshot) firstRefusal() string {
	if len(s.refused) == 0 {
		return ""
	}
	return ": " + s.refused[0]
}

// add puts the key, the n-th of the set, in. A key that occurs twice is one; two keys
// that one name could mean are none (RFC 7517 §4.5 asks for distinct ids).
func (s *keySnapshot) add(published publishedKey, n int) {
	for _, key := range published.bindings {
		name := keyName{algorithm: key.algorithm.name}
		if published.hasKeyID {
			name.id = published.keyID
			s.known[name.id] = nil
		} else {
			name.id = string(key.material[:]) // so that its place in the set does not matter
		}
		other, taken := s.byName[name]
		switch {
		case !taken:
			s.byName[name] = key
		case other == nil || other.material != key.material:
			s.refuse(fmt.Sprintf("key %d: another key has its kid and serves %s too, so neither is used", n, name.algorithm))
			s.byName[name] = nil // stays taken
		}
	}
}

// count drops the ambiguous names and fills in what follows from the rest.
func (s *keySnapshot) count() {
	materials := make(map[[sha256.Size]byte]bool)
	for name, key := range s.byName {
		if key == nil {
			delete(s.byName, name)
			s.known[name.id] = errors.New("several keys have this kid")
			continue
		}
		materials[key.material] = true
		other, taken := s.only[name.algorithm]
		switch {
		case !taken:
			s.only[name.algorithm] = key
		case other == nil || other.material != key.material:
			s.only[name.algorithm] = nil
		}
	}
	s.keys = len(materials)
}

// adopt makes s the successor of old: a key that is in both goes on living, and one
// that is only in old is withdrawn, with everything that was kept because of it.
func (s *keySnapshot) adopt(old *keySnapshot) {
	kept := make(map[*verificationKey]bool)
	for name, key := range s.byName {
		before, ok := old.byName[name]
		if !ok || before.material != key.material || before.hasKeyID != key.hasKeyID {
			continue
		}
		s.byName[name] = before
		if s.only[name.algorithm] == key {
			s.only[name.algorithm] = before
		}
		kept[before] = true
	}
	for _, key := range old.byName {
		if !kept[key] {
			key.withdrawn.Store(true)
		}
	}
}

func (s *keySnapshot) serves(now time.Time) bool {
	return s.byName != nil && (!s.failing || now.Before(s.goodUntil))
}

// find gives the key for a token with header h.
func (s *keySnapshot) find(h header) (*verificationKey, policy.Reason, error) {
	if !h.hasKeyID {
		key, present := s.only[h.algorithm]
		switch {
		case key != nil:
			return key, policy.ReasonNone, nil
		case present:
			return nil, policy.ReasonUnknownKey, fmt.Errorf("the token names no key, and several serve %s", h.algorithm)
		}
		return nil, policy.ReasonUnknownKey, fmt.Errorf("the token names no key, and none serves %s", h.algorithm)
	}
	if h.keyID == "" {
		return nil, policy.ReasonUnknownKey, errors.New("the token's kid is empty")
	}
	if key, ok := s.byName[keyName{h.keyID, h.algorithm}]; ok && key.hasKeyID {
		return key, policy.ReasonNone, nil
	}
	switch err, known := s.known[h.keyID]; {
	case !known:
		return nil, policy.ReasonUnknownKey, errors.New("the set has no key with the token's kid")
	case err != nil:
		return nil, policy.ReasonKeyUnsuitable, err
	}
	return nil, policy.ReasonKeyUnsuitable, fmt.Errorf("the key with the token's kid does not serve %s", h.algorithm)
}
