package authn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// What a key set does unless told otherwise.
const (
	DefaultKeyRefresh         = 5 * time.Minute
	DefaultUnknownKeyInterval = 10 * time.Second
	DefaultKeysStaleFor       = time.Hour
	DefaultKeysTimeout        = 5 * time.Second // for discovery and keys together
	DefaultKeysMaxBytes       = 1 << 20         // of one document; real ones have 1 to 20 KiB
)

// After a failed fetch the next one follows sooner than the refresh, with pauses that
// double between these two.
const (
	minKeysRetry = time.Second
	maxKeysRetry = 30 * time.Second
)

// KeySetOptions say where an issuer's keys are and how they are kept. Exactly one
// source is given: JWKSURL, JWKSFile, or discovery by Issuer, DiscoveryURL or both.
type KeySetOptions struct {
	Issuer       string // for discovery; a KeySet with another source ignores it
	DiscoveryURL string
	JWKSURL      string
	JWKSFile     string

	Algorithms []string // that keys are wanted for; default [AsymmetricAlgorithms]

	Refresh            time.Duration // between fetches, give or take a tenth
	UnknownKeyInterval time.Duration // between fetches that unknown key ids cause
	StaleFor           time.Duration // how long the last good set serves while fetches fail; negative: not at all
	Timeout            time.Duration // of one fetch
	MaxBytes           int64
	CAPEM              []byte // trusted instead of the system's certificates

	transport http.RoundTripper // instead of a network, for tests
}

// A KeySet holds the public keys of one issuer and keeps them current. It is safe for
// concurrent use; looking a key up takes no lock.
type KeySet struct {
	options   KeySetOptions
	allowed   []algorithm
	discovery *discovery // nil: keysURL or a file
	keysURL   string
	fetcher   *fetcher // nil: a file

	current atomic.Pointer[keySnapshot]

	life    context.Context // ends with Close
	end     context.CancelFunc
	started sync.Once
	running sync.WaitGroup
	changed chan struct{} // a fetch ended that the loop did not ask for

	mu            sync.Mutex
	fetch         *keyFetch // under way, or nil
	closed        bool
	lastUnknown   time.Time // when an unknown key id last caused a fetch
	discoveredURL string    // of the keys, from the last discovery
	failures      int       // in a row
	state         KeySetState
}

// keyFetch is one fetch under way. Whoever needs its outcome waits for done.
type keyFetch struct{ done chan struct{} }

// KeySetState is what operators see of a key set.
type KeySetState struct {
	Source      string    // URL or file
	Issuer      string    // as discovery named it; empty without
	Ready       bool      // keys can be used
	Keys        int       // usable keys
	Refused     []string  // why keys of the set are not used, in its order
	LastSuccess time.Time // zero: never
	LastFailure time.Time // zero: never
	LastError   string    // of the last fetch; empty if it succeeded
	Stale       bool      // fetches fail, and the last good set still serves
	Successes   uint64    // fetches since the start
	Failures    uint64
}

// NewKeySet checks options. Keys from a file are read at once, and an error if none
// can be used; everything else waits for [KeySet.Start].
func NewKeySet(options KeySetOptions) (*KeySet, error) {
	options.setDefaults()
	k := &KeySet{options: options, changed: make(chan struct{}, 1)}
	var err error
	if k.allowed, err = publishedAlgorithms(options.Algorithms); err != nil {
		return nil, err
	}
	if err := k.setSource(); err != nil {
		return nil, err
	}
	k.life, k.end = context.WithCancel(context.Background())
	k.current.Store(&keySnapshot{})
	if options.JWKSFile != "" {
		set, err := k.readFile()
		if err != nil {
			return nil, err
		}
		k.finish(time.Now(), set, nil)
	}
	return k, nil
}

func (o *KeySetOptions) setDefaults() {
	for _, d := range []struct{ value, byDefault *time.Duration }{
		{&o.Refresh, new(DefaultKeyRefresh)},
		{&o.UnknownKeyInterval, new(DefaultUnknownKeyInterval)},
		{&o.StaleFor, new(DefaultKeysStaleFor)},
		{&o.Timeout, new(DefaultKeysTimeout)},
	} {
		if *d.value == 0 {
			*d.value = *d.byDefault
		}
		*d.value = max(*d.value, 0)
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultKeysMaxBytes
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = AsymmetricAlgorithms()
	}
}

func publishedAlgorithms(names []string) ([]algorithm, error) {
	var all []algorithm
	for _, name := range names {
		a, ok := findAlgorithm(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("algorithm %q is not known", name)
		case a.family == familyHMAC:
			return nil, fmt.Errorf("algorithm %s needs a shared secret, and a key set is public", name)
		}
		all = append(all, a)
	}
	return all, nil
}

func (k *KeySet) setSource() error {
	o := &k.options
	discovers := o.DiscoveryURL != "" || o.Issuer != "" && o.JWKSURL == "" && o.JWKSFile == ""
	sources := 0
	for _, given := range []bool{discovers, o.JWKSURL != "", o.JWKSFile != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return errors.New("exactly one source of keys is needed: discovery by issuer or discovery_url, jwks_url or jwks_file")
	}
	var err error
	switch {
	case discovers:
		k.discovery, err = newDiscovery(o.Issuer, o.DiscoveryURL)
		if err != nil {
			return err
		}
		k.state.Source = k.discovery.url
	case o.JWKSURL != "":
		if _, err := parseRemoteURL(o.JWKSURL); err != nil {
			return fmt.Errorf("jwks_url: %w", err)
		}
		k.keysURL, k.state.Source = o.JWKSURL, o.JWKSURL
	default:
		k.state.Source = o.JWKSFile
		return nil
	}
	k.fetcher, err = newFetcher(o.CAPEM, o.MaxBytes, o.transport)
	return err
}

// Start begins to fetch, now and from then on, until [KeySet.Close]. It does not wait.
func (k *KeySet) Start() {
	k.started.Do(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.closed {
			k.running.Go(k.loop)
		}
	})
}

// Close ends all fetching and waits for it to end.
func (k *KeySet) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.end()
	k.running.Wait()
	if k.fetcher != nil {
		k.fetcher.close()
	}
}

// Reload fetches now, whatever the schedule, and waits for the outcome: after a
// changed key file, for instance.
func (k *KeySet) Reload(ctx context.Context) error {
	if f := k.begin(); f == nil || !f.wait(ctx) {
		return errors.New("fetching keys: given up")
	}
	if state := k.State(); state.LastError != "" {
		return errors.New(state.LastError)
	}
	return nil
}

// State is how the set stands now.
func (k *KeySet) State() KeySetState {
	now := time.Now()
	set := k.current.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	state := k.state
	state.Ready = set.serves(now)
	state.Stale = state.Ready && !set.goodUntil.IsZero()
	return state
}

func (k *KeySet) loop() {
	for k.life.Err() == nil {
		if f := k.begin(); f != nil {
			f.wait(k.life)
		}
		timer := time.NewTimer(k.pause())
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			case <-k.changed:
				timer.Reset(k.pause())
			case <-k.life.Done():
				waiting = false
			}
		}
		timer.Stop()
	}
}

// pause is how long to wait before the next fetch.
func (k *KeySet) pause() time.Duration {
	k.mu.Lock()
	failures := k.failures
	k.mu.Unlock()
	base := k.options.Refresh
	if failures > 0 {
		retry := maxKeysRetry
		if failures < 6 {
			retry = minKeysRetry << (failures - 1)
		}
		base = min(base, retry)
	}
	// Replicas that started together do not ask together.
	return base - base/10 + rand.N(base/5+1)
}

// begin joins the fetch under way, or starts one. It is nil after Close.
func (k *KeySet) begin() *keyFetch {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.beginLocked(false)
}

func (k *KeySet) beginLocked(unknownKey bool) *keyFetch {
	if k.fetch != nil {
		return k.fetch
	}
	if k.closed {
		return nil
	}
	f := &keyFetch{done: make(chan struct{})}
	k.fetch = f
	knownURL := k.keysURL
	if unknownKey {
		knownURL = k.discoveredURL // one request, not two: floods of unknown ids end here
	}
	k.running.Go(func() {
		begun := time.Now()
		set, err := k.fetchSet(knownURL)
		k.finish(begun, set, err)
		k.mu.Lock()
		k.fetch = nil
		k.mu.Unlock()
		close(f.done)
		select {
		case k.changed <- struct{}{}:
		default:
		}
	})
	return f
}

var errKeysLate = errors.New("waiting for keys: they are not here in time")

// wait tells whether f ended before ctx.
func (f *keyFetch) wait(ctx context.Context) bool {
	select {
	case <-f.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetchSet gets a set from the source, by way of discovery if knownURL is empty.
func (k *KeySet) fetchSet(knownURL string) (set *keySnapshot, err error) {
	defer func() {
		// Keys and documents come from elsewhere: a reader's mistake is a failed fetch.
		if p := recover(); p != nil {
			set, err = nil, fmt.Errorf("reading keys: panic: %v", p)
		}
	}()
	if k.fetcher == nil {
		return k.readFile()
	}
	ctx, cancel := context.WithTimeout(k.life, k.options.Timeout)
	defer cancel()
	issuer, address := k.State().Issuer, knownURL
	if address == "" && k.discovery != nil {
		if issuer, address, err = k.discovery.resolve(ctx, k.fetcher); err != nil {
			return nil, err
		}
	}
	body, err := k.fetcher.get(ctx, address)
	if err != nil {
		return nil, err
	}
	set, err = parseKeySet(body, k.allowed)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", address, err)
	}
	set.issuer, set.address = issuer, address
	return set, nil
}

func (k *KeySet) readFile() (*keySnapshot, error) {
	body, err := os.ReadFile(k.options.JWKSFile)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	set, err := parseKeySet(body, k.allowed)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", k.options.JWKSFile, err)
	}
	return set, nil
}

// finish makes the outcome of a fetch that began at begun the current state.
func (k *KeySet) finish(begun time.Time, set *keySnapshot, err error) {
	if k.life.Err() != nil {
		return // closing is no failure of the issuer
	}
	old := k.current.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.failures++
		k.state.Failures++
		k.state.LastFailure, k.state.LastError = time.Now(), err.Error()
		if !old.failing {
			failed := *old
			failed.failing = true
			failed.goodUntil = begun.Add(k.options.StaleFor)
			k.current.Store(&failed)
		}
	} else {
		k.failures = 0
		k.state.Successes++
		k.state.LastSuccess, k.state.LastError = time.Now(), ""
		k.state.Issuer, k.state.Keys, k.state.Refused = set.issuer, set.keys, set.refused
		k.discoveredURL = set.address
		set.adopt(old)
		k.current.Store(set)
	}
}

// serves tells whether the set can be relied on at now. One load and a comparison:
// every request asks.
func (k *KeySet) serves(now time.Time) bool { return k.current.Load().serves(now) }

// issuer is the issuer as discovery named it, or empty before it did.
func (k *KeySet) issuer() string { return k.current.Load().issuer }

// find gives the key that verifies a token with header h, or why there is none. With
// local it does not wait for anything.
func (k *KeySet) find(ctx context.Context, h header, now time.Time, local bool) (*verificationKey, policy.Reason, error) {
	set := k.current.Load()
	if set.serves(now) {
		if key, reason, err := set.find(h); reason != policy.ReasonUnknownKey || h.keyID == "" {
			return key, reason, err
		}
	}
	ctx, cancel := patience.For(ctx) // for all waits together
	defer cancel()
	if !set.serves(now) && !local {
		// At the start, or when an outage ends, the answer may be on its way.
		k.mu.Lock()
		f := k.fetch
		k.mu.Unlock()
		if f != nil {
			f.wait(ctx)
			set = k.current.Load()
		}
	}
	if !set.serves(now) {
		return nil, policy.ReasonKeysUnavailable, errors.New("no usable key set")
	}
	key, reason, err := set.find(h)
	if reason != policy.ReasonUnknownKey || h.keyID == "" {
		return key, reason, err
	}
	// Twice, as a fetch that was under way may have asked before the key was published.
	for tries := 0; tries < 2 && !local && reason == policy.ReasonUnknownKey; tries++ {
		f := k.refetch(now)
		if f == nil {
			break
		}
		if !f.wait(ctx) {
			return nil, policy.ReasonKeysUnavailable, errKeysLate
		}
		set = k.current.Load()
		key, reason, err = set.find(h)
	}
	if reason == policy.ReasonUnknownKey && set.failing {
		return nil, policy.ReasonKeysUnavailable, errors.New("the key is not in the last good set, and the last fetch failed")
	}
	return key, reason, err
}

// refetch joins the fetch under way, or starts one because of an unknown key id if
// the last such was long enough ago; otherwise it is nil.
func (k *KeySet) refetch(now time.Time) *keyFetch {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetch != nil {
		return k.fetch
	}
	if now.Sub(k.lastUnknown) < k.options.UnknownKeyInterval {
		return nil
	}
	k.lastUnknown = now
	return k.beginLocked(true)
}

// retryAfter is a guess at when keys may be there again.
func (k *KeySet) retryAfter() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return min(max(minKeysRetry, time.Duration(k.failures)*minKeysRetry), maxKeysRetry)
}
