package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// Loaded is a configuration that holds, and what was made of it.
type Loaded struct {
	Config *configv1.Config // as decoded: variables expanded, switched-off blocks gone, secrets not read
	Gate   *extauthz.Config // what Snapshot is made of
	Hash   string           // of everything but the secrets' values; equal on equal replicas
	Files  []string         // that it was made of, the configuration first; absolute or as the path was given

	// Snapshot decides by this configuration.
	Snapshot *extauthz.Snapshot

	DecisionLog *DecisionLog // nil: decisions are not recorded

	// Store is what keeps tokens and people; nil without.
	Store *tokens.View

	// HashKey is store.hash_key; empty without.
	HashKey authn.Secret

	contents  map[string][sha256.Size]byte // of Files, as they were read
	store     *openStore
	instances []*instance
	shared    shared
	memory    map[string]mint.Key          // signing keys that no file has
	rings     map[*mint.Ring]time.Duration // signing keys of the store, and how long each of them signs
	closed    sync.Once
}

// instance is an authenticator that several configurations in a row may share.
type instance struct {
	name   string
	digest [sha256.Size]byte
	made
	holders atomic.Int32
}

// made is a new authenticator and what runs beside it: start and close may be nil.
type made struct {
	authenticator authn.Authenticator
	start, close  func()
}

// alone is an authenticator that runs nothing in the background, but may have
// connections to close.
func alone[A authn.Authenticator](a A, err error) (made, error) {
	if err != nil {
		return made{}, err
	}
	m := made{authenticator: a}
	if closer, ok := any(a).(interface{ Close() }); ok {
		m.close = closer.Close
	}
	return m, nil
}

func newInstance(p *part, m made) *instance {
	return &instance{name: p.config.GetName(), digest: p.digest, made: m}
}

// shared is what the authenticators of all configurations in a row have in common.
type shared struct {
	cacheKeys *authn.CacheKeys
	passwords *authn.CorePool
}

// instance finds the authenticator that p describes, if l has it. l may be nil.
func (l *Loaded) instance(p *part) *instance {
	if l == nil {
		return nil
	}
	for _, i := range l.instances {
		if i.name == p.config.GetName() && i.digest == p.digest {
			return i
		}
	}
	return nil
}

// Start begins what runs in the background: fetching keys. Authenticators that came
// from the configuration before are running already.
func (l *Loaded) Start() {
	l.store.run(l.rings)
	for _, i := range l.instances {
		if i.start != nil {
			i.start()
		}
	}
}

// WaitForSigningKeys waits until the keys that sign identity tokens were read from the
// store, or ctx ends. Without [Loaded.Start] they never are.
func (l *Loaded) WaitForSigningKeys(ctx context.Context) {
	for r := range l.rings {
		select {
		case <-r.Ready():
		case <-ctx.Done():
			return
		}
	}
}

// Improvise is for commands that decide without asking the store: identity tokens are
// signed with keys that nobody else knows, unless the store's are read after all.
func (l *Loaded) Improvise() error {
	for r := range l.rings {
		if err := r.Improvise(); err != nil {
			return err
		}
	}
	return nil
}

// Outdated tells whether a file holds by now what l was not made of. It reads them all.
func (l *Loaded) Outdated() bool {
	for _, path := range l.Files {
		data, err := readLimited(path, maxFileBytes)
		if err != nil || sha256.Sum256(data) != l.contents[path] {
			return true
		}
	}
	return false
}

// Close ends the authenticators that no other configuration has taken over. Call it
// when the last request that l decides is answered.
func (l *Loaded) Close() {
	l.closed.Do(func() {
		for _, i := range l.instances {
			if i.holders.Add(-1) == 0 && i.close != nil {
				i.close()
			}
		}
		l.store.release()
	})
}

// Load reads the configuration file at path. env looks up environment variables, as
// [os.LookupEnv] does. before is the configuration in use, or nil: authenticators
// whose configuration is equal go on with their caches and key sets.
//
// The Report holds every error at once, in file order; Loaded is nil if there is
// one. Nothing asks the network before [Loaded.Start].
func Load(path string, env func(string) (string, bool), before *Loaded) (*Loaded, *Report) {
	report := &Report{}
	defer report.finish()
	data, err := readFile(path)
	if err != nil {
		report.Errors = append(report.Errors, Problem{Rule: ruleSetting, At: policy.Position{File: path, Line: 1, Column: 1}, Message: err.Error()})
		return nil, report
	}
	doc, problems := parse(path, data, env)
	report.Errors = problems
	if doc == nil {
		return nil, report
	}
	b := newBuilder(doc, path, env, before)
	b.build()
	report.Errors = append(report.Errors, b.errors...)
	report.Warnings = b.warnings
	if !report.OK() {
		b.discard()
		return nil, report
	}
	loaded, err := b.finish(path, data)
	if err != nil {
		report.Errors = append(report.Errors, Problem{Rule: ruleSetting, At: policy.Position{File: path, Line: 1, Column: 1}, Message: err.Error()})
		b.discard()
		return nil, report
	}
	report.Summary = b.summary(loaded.Hash)
	return loaded, report
}

// discard ends what was made for a configuration that does not load.
func (b *builder) discard() {
	if b.store != nil && b.store.holders.Load() == 0 {
		b.store.hold()
		b.store.release()
	}
	for _, p := range b.parts {
		if p.instance == nil || b.reuse.instance(p) != nil {
			continue
		}
		if p.instance.close != nil {
			p.instance.close()
		}
	}
}

func (b *builder) finish(path string, data []byte) (*Loaded, error) {
	hash := b.hash()
	b.gate.Hash = hash
	b.gate.Tenancy = b.tenancy
	snapshot, err := extauthz.NewSnapshot(b.gate)
	if err != nil {
		return nil, err
	}
	loaded := &Loaded{
		Config: b.config, Gate: b.gate, Hash: hash, DecisionLog: b.log, Snapshot: snapshot, shared: b.shared,
		Files: append([]string{path}, b.files.sorted()...), memory: b.memory, rings: b.rings,
		contents: map[string][sha256.Size]byte{},
	}
	for name, read := range b.files.read {
		loaded.contents[name] = sha256.Sum256(read.data)
	}
	loaded.contents[path] = sha256.Sum256(data)
	if b.store != nil {
		b.store.hold()
		loaded.store, loaded.Store, loaded.HashKey = b.store, b.store.view, b.hashKey
	}
	for _, p := range b.parts {
		p.instance.holders.Add(1)
		loaded.instances = append(loaded.instances, p.instance)
	}
	return loaded, nil
}

// hash is over the decoded configuration, the variables that expressions read and
// the files, but for those that hold secrets.
func (b *builder) hash() string {
	h := sha256.New()
	block, _ := proto.MarshalOptions{Deterministic: true}.Marshal(b.config)
	h.Write(block)
	for _, name := range b.config.GetExpressionEnv() {
		fmt.Fprintf(h, "%s=%q", name, b.exprs.variables["env."+name])
	}
	for _, path := range b.files.sorted() {
		if !b.files.secret[path] {
			fmt.Fprintf(h, "%x", sha256.Sum256(b.files.read[path].data))
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (b *builder) summary(hash string) Summary {
	s := Summary{Routes: len(b.gate.Routes), Hash: hash}
	for _, p := range b.parts {
		s.Authenticators = append(s.Authenticators, p.config.GetName())
	}
	for _, r := range b.gate.Routes {
		s.Patterns += len(r.Policy.Patterns)
		if r.Forward.Credentials == extauthz.Pass {
			s.PassRoutes = append(s.PassRoutes, r.Policy.Name)
		}
		if r.Policy.Shadow {
			s.ShadowRoutes = append(s.ShadowRoutes, r.Policy.Name)
		}
	}
	for _, owned := range b.forwards.owned {
		s.Headers = append(s.Headers, owned.name)
	}
	slices.Sort(s.Headers)
	return s
}
