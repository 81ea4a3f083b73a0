package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// openStore is a store and its picture in memory, which several configurations in a
// row may share. Its methods do nothing on nil.
type openStore struct {
	digest  [sha256.Size]byte
	view    *tokens.View
	holders atomic.Int32

	start   sync.Once
	ctx     context.Context // of what runs; set with cancel
	cancel  context.CancelFunc
	running sync.WaitGroup // rings
	ended   chan struct{}

	mu    sync.Mutex
	rings map[string]*ring // by algorithm
}

// ring is the signing keys of one algorithm, which go on being followed and rotated once
// a configuration has used them.
type ring struct {
	*mint.Ring
	started bool
}

func newOpenStore(digest [sha256.Size]byte, view *tokens.View) *openStore {
	return &openStore{digest: digest, view: view, ended: make(chan struct{}), rings: map[string]*ring{}}
}

func (s *openStore) hold() { s.holders.Add(1) }

// run begins to follow the store and the rings of rotations, unless that has begun.
func (s *openStore) run(rotations map[*mint.Ring]time.Duration) {
	if s == nil {
		return
	}
	s.start.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		s.cancel = cancel
		s.ctx = ctx
		go func() {
			defer close(s.ended)
			s.view.Run(ctx)
			s.running.Wait()
		}()
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rings {
		if every, used := rotations[r.Ring]; used {
			r.Rotate(every)
			if !r.started {
				r.started = true
				s.running.Go(func() { r.Run(s.ctx) })
			}
		}
	}
}

// ring is the signing keys of an algorithm.
func (s *openStore) ring(algorithm string) *mint.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rings[algorithm] == nil {
		s.rings[algorithm] = &ring{Ring: mint.NewRing(s.view.Store(), algorithm)}
	}
	return s.rings[algorithm].Ring
}

// release ends it when the last configuration lets go: what is pending is written.
func (s *openStore) release() {
	if s == nil || s.holders.Add(-1) > 0 {
		return
	}
	s.start.Do(func() { close(s.ended) })
	if s.cancel != nil {
		s.cancel()
	}
	<-s.ended
	_ = s.view.Store().Close() // there is nobody left whom it concerns
}

// buildStore reads the store block and what depends on it. Nothing is opened yet.
func (b *builder) buildStore() {
	m := b.config.GetStore()
	if m == nil {
		b.needStore()
		return
	}
	if b.isTainted(m) {
		return
	}
	options, digest, ok := b.storeOptions(m)
	if !ok {
		return
	}
	if b.reuse != nil && b.reuse.store != nil && b.reuse.store.digest == digest {
		b.store = b.reuse.store
	} else {
		store, err := b.openStore(m, options)
		if err != nil {
			b.errorf(b.pos.of(m), "", "%v", err)
			return
		}
		staleFor := m.GetStaleFor().AsDuration()
		if m.GetStaleFor() != nil && staleFor == 0 {
			staleFor = -1
		}
		b.store = newOpenStore(digest, tokens.NewView(store, tokens.ViewOptions{StaleFor: staleFor, Poll: m.GetPoll().AsDuration()}))
	}
	b.buildDirectory()
}

// storeOptions reads the secrets of a store; digest is of all that it is made of.
func (b *builder) storeOptions(m *configv1.Store) (options tokens.Options, digest [sha256.Size]byte, ok bool) {
	block, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(block), block)
	for _, secret := range []*configv1.Secret{m.GetHashKey(), m.GetPostgres().GetUrl()} {
		if secret == nil {
			continue
		}
		value, ok := b.secret(secret, false)
		if !ok {
			return options, digest, false
		}
		sum := sha256.Sum256([]byte(value.Reveal()))
		h.Write(sum[:])
		if secret == m.GetHashKey() {
			b.hashKey, options.HashKey = value, []byte(value.Reveal())
		}
	}
	h.Sum(digest[:0])
	return options, digest, true
}

func (b *builder) openStore(m *configv1.Store, options tokens.Options) (*tokens.Store, error) {
	if m.GetSqlite() != nil {
		return tokens.OpenSQLite(b.files.resolve(m.GetSqlite().GetPath()), options)
	}
	url, _ := b.secret(m.GetPostgres().GetUrl(), false) // read before
	return tokens.OpenPostgres(url.Reveal(), options)
}

// needStore reports what cannot be without a store.
func (b *builder) needStore() {
	const remedy = "add store: {sqlite: {path: gatehouse.db}}"
	for _, a := range b.config.GetAuthenticators() {
		switch {
		case a.GetToken() != nil:
			b.errorf(b.pos.field(a, "token"), remedy, "authenticator %s needs a store", quote(a.GetName()))
		case a.GetApiKey().GetStore():
			b.errorf(b.pos.field(a.GetApiKey(), "store"), remedy, "authenticator %s needs a store", quote(a.GetName()))
		}
	}
	if b.config.GetDirectory() != nil {
		b.errorf(b.pos.field(b.config, "directory"), remedy, "the directory needs a store")
	}
}

// isPeople says whether people are behind an authenticator's principals, who can be
// disabled. Our own tokens look for their owners themselves.
func isPeople(a *configv1.Authenticator) bool {
	return a.GetJwt() != nil || a.GetBasic() != nil || a.GetClientCredentials() != nil ||
		a.GetRefreshToken() != nil || a.GetIntrospection() != nil || a.GetLookup() != nil
}

// isIssued says whether others issue what an authenticator verifies, with an issuer
// and a time, so that it can be revoked here.
func isIssued(a *configv1.Authenticator) bool {
	return a.GetJwt() != nil || a.GetClientCredentials() != nil || a.GetRefreshToken() != nil
}

func (b *builder) buildDirectory() {
	b.people = &tokens.Directory{View: b.store.view, Authenticators: map[string]bool{}}
	m := b.config.GetDirectory()
	if m == nil {
		return // people are looked up, and nobody is recorded
	}
	b.people.Provision = m.Provision == nil || m.GetProvision()
	for i, name := range m.GetAuthenticators() {
		at := b.pos.item(m, "authenticators", i)
		if name == "" || !b.knownAuthenticator(at, name) {
			continue
		}
		if a := b.authenticator(name); a != nil && !isPeople(a) {
			b.errorf(at, "name one whose principals are people", "authenticator %s has no people to keep", quote(name))
		}
		b.people.Authenticators[name] = true
	}
	if len(m.GetAuthenticators()) > 0 {
		return
	}
	for _, a := range b.config.GetAuthenticators() {
		if isIssued(a) {
			b.people.Authenticators[a.GetName()] = true
		}
	}
	if len(b.people.Authenticators) == 0 && !b.anyTainted() {
		b.errorf(b.pos.of(m), "name some: authenticators: [NAME]", "there is no authenticator whose principals the directory could keep")
	}
}

// guard is what the store has to say about those whom an authenticator verified; nil
// if it has nothing.
func (b *builder) guard(a *configv1.Authenticator) *authn.Guard {
	if b.store == nil || !isPeople(a) {
		return nil
	}
	return &authn.Guard{View: b.store.view, Revocations: isIssued(a), Directory: b.people}
}

// tokenOfOurs checks a token block.
func (b *builder) tokenOfOurs(p *part, m *configv1.Token) func() (made, error) {
	p.entry.Kind = authn.KindToken
	p.entry.Places = b.places(m.GetFrom(), bearer)
	p.entry.Prefix = tokens.Prefix
	if b.store == nil {
		return nil // reported
	}
	p.depends("store", b.store.digest[:])
	view := b.store.view
	return func() (made, error) {
		return alone(authn.NewToken(authn.TokenOptions{Stamp: b.stamp(p.config), View: view, Directory: m.GetOwner() == "directory"}))
	}
}

// nonces are where the nonces of a peer's signatures are taken: in the store, so that
// a message counts once at all replicas together; nil without one.
func (b *builder) nonces(p *part) authn.NonceStore {
	if b.store == nil {
		return nil
	}
	p.depends("store", b.store.digest[:])
	return b.store.view.Store()
}

// storedKeys are the keys of the store, for an api_key block that asks for them.
func (b *builder) storedKeys(p *part, m *configv1.ApiKey) authn.KeyStore {
	if !m.GetStore() || b.store == nil {
		return nil
	}
	p.depends("store", b.store.digest[:])
	return authn.StoredKeys{View: b.store.view}
}

// defaultAdminRole is the administrators' role where the file names none.
const defaultAdminRole = "gatehouse-admin"

// AdminRoles are the roles that make an administrator of tokens and people.
func (l *Loaded) AdminRoles() []string {
	if roles := l.Config.GetAdmin().GetRoles(); len(roles) > 0 {
		return slices.Clone(roles)
	}
	return []string{defaultAdminRole}
}
