package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// Loaded is a configuration that holds, and what was made of it.
type Loaded struct {
	Config *configv1.Config // as decoded: variables expanded, switched-off blocks gone, secrets not read
	Gate   *extauthz.Config // what a snapshot is made of
	Hash   string           // of everything but the secrets' values; equal on equal replicas
	Files  []string         // that it was made of, the configuration first; absolute or as the path was given

	instances []*instance
	memory    map[string]mint.Key // signing keys that no file has
	closed    sync.Once
}

// instance is an authenticator that several configurations in a row may share.
type instance struct {
	name          string
	digest        [sha256.Size]byte
	authenticator authn.Authenticator
	holders       atomic.Int32
}

func newInstance(p *part, a authn.Authenticator) *instance {
	return &instance{name: p.config.GetName(), digest: p.digest, authenticator: a}
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
	for _, i := range l.instances {
		switch a := i.authenticator.(type) {
		case *authn.JWT:
			if keys := a.Keys(); keys != nil {
				keys.Start()
			}
		case interface{ Start() }:
			a.Start()
		}
	}
}

// Close ends the authenticators that no other configuration has taken over. Call it
// when the last request that l decides is answered.
func (l *Loaded) Close() {
	l.closed.Do(func() {
		for _, i := range l.instances {
			if closer, ok := i.authenticator.(interface{ Close() }); ok && i.holders.Add(-1) == 0 {
				closer.Close()
			}
		}
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
		report.Errors = append(report.Errors, Problem{At: policy.Position{File: path, Line: 1, Column: 1}, Message: err.Error()})
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
	loaded := b.finish(path)
	report.Summary = b.summary(loaded.Hash)
	return loaded, report
}

// discard ends what was made for a configuration that does not load.
func (b *builder) discard() {
	for _, p := range b.parts {
		if p.instance == nil || b.reuse.instance(p) != nil {
			continue
		}
		if closer, ok := p.instance.authenticator.(interface{ Close() }); ok {
			closer.Close()
		}
	}
}

func (b *builder) finish(path string) *Loaded {
	hash := b.hash()
	b.gate.Hash = hash
	b.gate.Tenancy = b.tenancy
	loaded := &Loaded{
		Config: b.config, Gate: &b.gate, Hash: hash,
		Files: append([]string{path}, b.files.sorted()...), memory: b.memory,
	}
	for _, p := range b.parts {
		p.instance.holders.Add(1)
		loaded.instances = append(loaded.instances, p.instance)
	}
	return loaded
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
