package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A View is one replica's picture of the store, in memory. [View.Run] keeps it up to
// date; its other methods are safe for concurrent use.
//
// The promise: a change that was answered, here or at another replica, is known to
// every request that begins a second later at a replica that reaches the store. One
// that does not reach it goes on with what it knows for StaleFor, and then answers
// that it cannot tell.
type View struct {
	store   *Store
	options ViewOptions
	hooks   atomic.Pointer[Hooks]

	tokens      *mirror[string, Token]
	people      *mirror[Owner, Person]
	revocations atomic.Pointer[revocations]
	reads       chan struct{} // holds a value for each read of the store under way

	syncing sync.Mutex   // one turn of the feed at a time
	applied int64        // the last version that the picture holds
	current atomic.Int64 // when the picture was last known to be the store's, Unix nanoseconds
	ready   bool         // the schema is there
	failure atomic.Pointer[error]
	wake    chan struct{}

	used usage
	seen crowd
}

// ViewOptions are the settings of a View. Zero values take the defaults.
type ViewOptions struct {
	// StaleFor is how long the picture counts while the store cannot be asked. It is at
	// least a second more than Poll.
	StaleFor time.Duration // default 30 s; negative: as little as can be

	// Poll is how often the store is asked for changes, notified or not.
	Poll time.Duration // default 500 ms

	// Size bounds the number of tokens and of people held, each.
	Size int // default 100,000, at most a few hundred bytes each
}

// Hooks are told what a View does. Each may be nil.
type Hooks struct {
	// Heard is called with the age of a change when it takes effect here, by the
	// store's clock.
	Heard func(lag time.Duration)

	// Asked is called after each look-up that had to read the store. That there is no
	// such record is no error.
	Asked func(took time.Duration, err error)

	// Reached is called with an error when the store can no longer be asked, and with nil
	// when it answers again.
	Reached func(err error)

	// Postponed is called when uses, sightings or the deletion of what has expired could
	// not be written; they are tried again.
	Postponed func(err error)
}

// Hook sets who is told from now on.
func (v *View) Hook(hooks Hooks) {
	if hooks.Heard == nil {
		hooks.Heard = func(time.Duration) {}
	}
	if hooks.Asked == nil {
		hooks.Asked = func(time.Duration, error) {}
	}
	if hooks.Reached == nil {
		hooks.Reached = func(error) {}
	}
	if hooks.Postponed == nil {
		hooks.Postponed = func(error) {}
	}
	v.hooks.Store(&hooks)
}

const (
	defaultStaleFor = 30 * time.Second
	defaultPoll     = 500 * time.Millisecond
	defaultSize     = 100_000

	// slack is how late a turn of the feed may be before the store counts as gone.
	slack = time.Second

	// storeTimeout bounds each turn of the feed and each read.
	storeTimeout = 5 * time.Second

	// maxReads bounds the reads of unknown tokens, so that a flood of made-up ones
	// cannot take the store from everybody else.
	maxReads = 16

	// feedPage is how many records one query of the feed brings.
	feedPage = 1000

	// forgetEvery is how often what has expired is deleted.
	forgetEvery = 10 * time.Minute
)

// NewView makes a view that knows nothing yet: it answers that it cannot tell until
// Run has reached the store.
func NewView(store *Store, options ViewOptions) *View {
	if options.Poll <= 0 {
		options.Poll = defaultPoll
	}
	if options.StaleFor == 0 {
		options.StaleFor = defaultStaleFor
	}
	options.StaleFor = max(options.StaleFor, options.Poll+slack)
	if options.Size <= 0 {
		options.Size = defaultSize
	}
	v := &View{
		store:   store,
		options: options,
		reads:   make(chan struct{}, maxReads),
		wake:    make(chan struct{}, 1),
	}
	v.tokens = newMirror(options.Size, limited(v, store.Get), func(t *Token) int64 { return t.Version })
	v.people = newMirror(options.Size, limited(v, store.Person), func(p *Person) int64 { return p.Version })
	v.revocations.Store(&revocations{})
	v.Hook(Hooks{})
	return v
}

// Store is what the view is a picture of.
func (v *View) Store() *Store { return v.store }

// limited bounds the reads of the store in number and in time.
func limited[K comparable, V any](v *View, load func(context.Context, K) (*V, error)) func(context.Context, K) (*V, error) {
	return func(ctx context.Context, key K) (*V, error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		select {
		case v.reads <- struct{}{}:
			defer func() { <-v.reads }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		began := time.Now()
		rec, err := load(ctx, key)
		if isNotFound(err) {
			v.hooks.Load().Asked(time.Since(began), nil)
		} else {
			v.hooks.Load().Asked(time.Since(began), err)
		}
		return rec, err
	}
}

// Token finds the record of a credential that was presented as kind, without I/O if
// it was found before. The Token is nil if and only if the credential is refused,
// with the reason; the same pointer comes back for as long as the record is unchanged.
//
// local asks for no I/O: what is not in memory is then [policy.ReasonStoreUnavailable].
func (v *View) Token(ctx context.Context, text string, kind Kind, now time.Time, local bool) (*Token, policy.Reason) {
	credential, ok := ParseCredential(text)
	if !ok {
		return nil, policy.ReasonTokenMalformed
	}
	if !v.knows(now) {
		return nil, policy.ReasonStoreUnavailable
	}
	t, ok := v.tokens.peek(credential.id)
	if !ok {
		if local {
			return nil, policy.ReasonStoreUnavailable
		}
		var err error
		if t, err = v.tokens.get(ctx, credential.id); err != nil {
			return nil, policy.ReasonStoreUnavailable
		}
	}
	switch {
	case t == nil || t.Kind != kind || !t.holds(credential.hash(v.store.hashKey), now):
		return nil, policy.ReasonTokenUnknown
	case !t.RevokedAt.IsZero() || v.revocations.Load().covers(t.Owner.Issuer, t.Owner.Subject, t.Tenant, "", t.CreatedAt):
		return nil, policy.ReasonTokenRevoked
	case t.Expired(now):
		return nil, policy.ReasonExpired
	}
	v.used.note(t, now)
	return t, policy.ReasonNone
}

// Standing is what the store says of a token that others issued. Its zero value
// refuses.
type Standing uint8

const (
	Untold  Standing = iota // the store has not been heard of for too long
	Revoked                 // by a revocation
	Good                    // not revoked
)

// Standing tells whether a token of others (a JWT) was revoked: by its issuer, its
// subject (as in [OwnerOf]), its tenant or its jti. It does no I/O. issued is its
// iat; the zero time counts as older than every revocation.
func (v *View) Standing(issuer, subject, tenant, jti string, issued, now time.Time) Standing {
	if !v.knows(now) {
		return Untold
	}
	if v.revocations.Load().covers(issuer, subject, tenant, jti, issued) {
		return Revoked
	}
	return Good
}

// knows tells whether the picture is recent enough to count.
func (v *View) knows(now time.Time) bool {
	current := v.current.Load()
	return current != 0 && now.UnixNano()-current <= int64(v.options.StaleFor)
}

// Ready tells why the view cannot answer, or nil.
func (v *View) Ready(now time.Time) error {
	if v.knows(now) {
		return nil
	}
	if failure := v.failure.Load(); failure != nil {
		return *failure
	}
	return errors.New("the store has not been asked yet")
}

// Age is how long ago the picture was last known to be the store's; negative if it
// never was.
func (v *View) Age(now time.Time) time.Duration {
	current := v.current.Load()
	if current == 0 {
		return -1
	}
	return max(0, now.Sub(time.Unix(0, current)))
}

// Run keeps the picture up to date until ctx ends, and then writes what is pending.
// It migrates the store first, and goes on trying where that fails.
func (v *View) Run(ctx context.Context) {
	var listening sync.WaitGroup
	defer listening.Wait()
	if v.store.dialect.listen != nil {
		listening.Go(func() { v.store.dialect.listen(ctx, v.Wake) })
	}
	// Not in between: a store that is slow to write must not keep us from hearing of changes.
	var writing sync.WaitGroup
	writing.Go(func() { v.write(ctx) })
	ticks := time.NewTicker(v.options.Poll)
	defer ticks.Stop()
	for ctx.Err() == nil {
		v.turn(ctx)
		select {
		case <-ctx.Done():
		case <-ticks.C:
		case <-v.wake:
		}
	}
	writing.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	v.flush(last)
}

// write writes what is pending, and deletes what has expired, until ctx ends.
func (v *View) write(ctx context.Context) {
	ticks := time.NewTicker(flushEvery)
	defer ticks.Stop()
	for forgotten := (time.Time{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		v.flush(ctx)
		if now := time.Now(); now.Sub(forgotten) >= forgetEvery && v.knows(now) {
			forgotten = now
			if err := v.store.forget(ctx, now); err != nil {
				v.hooks.Load().Postponed(err)
			}
		}
	}
}

// Wake asks Run to look for changes now.
func (v *View) Wake() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// turn is one Sync of Run: it tells when the store goes and when it comes back.
func (v *View) turn(ctx context.Context) {
	before := v.failure.Load()
	err := v.Sync(ctx)
	switch {
	case err != nil && before == nil && ctx.Err() == nil:
		v.hooks.Load().Reached(err)
	case err == nil && before != nil:
		v.hooks.Load().Reached(nil)
	}
}

// Sync brings the picture up to date. When it returns nil, every change that had
// been answered when it was called is in effect here.
func (v *View) Sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v.syncing.Lock()
	defer v.syncing.Unlock()
	began := time.Now()
	err := v.sync(ctx)
	if err != nil {
		v.failure.Store(&err)
		return err
	}
	v.failure.Store(nil)
	v.current.Store(began.UnixNano())
	return nil
}

func (v *View) sync(ctx context.Context) error {
	if !v.ready {
		if err := v.store.Migrate(ctx); err != nil {
			return err
		}
		v.ready = true
	}
	version, now, err := v.store.clock(ctx)
	asked := time.Now()
	if err != nil {
		return fmt.Errorf("asking the store for changes: %w", err)
	}
	if version < v.applied {
		// The store was restored from a backup: what is held may be of a future that did
		// not happen.
		v.tokens.clear()
		v.people.clear()
		v.revocations.Store(&revocations{})
		v.applied = 0
	}
	if version == v.applied && v.current.Load() != 0 {
		return nil
	}
	if err := v.follow(ctx); err != nil {
		return fmt.Errorf("reading changes from the store: %w", err)
	}
	if v.current.Load() != 0 {
		if oldest, err := v.store.changedSince(ctx, v.applied); err == nil && oldest != 0 {
			v.hooks.Load().Heard(max(0, time.Duration(now-oldest)*time.Microsecond) + time.Since(asked))
		}
	}
	v.applied = version
	return nil
}

// follow applies what changed after v.applied. Revocations come first: they are few
// and cover records that may be many.
func (v *View) follow(ctx context.Context) error {
	more, err := v.store.revocationsSince(ctx, v.applied)
	if err != nil {
		return err
	}
	if len(more) > 0 {
		v.revocations.Store(v.revocations.Load().with(more))
	}
	if v.current.Load() == 0 {
		// Nothing is held at the start, so no record can be out of date.
		return nil
	}
	for version, after := v.applied+1, (Owner{}); ; {
		page, err := v.store.peopleSince(ctx, version, after, feedPage)
		if err != nil {
			return err
		}
		for _, p := range page {
			v.people.apply(p.Owner, p)
			version, after = p.Version, p.Owner
		}
		if len(page) < feedPage {
			break
		}
	}
	for version, after := v.applied+1, ""; ; {
		page, err := v.store.tokensSince(ctx, version, after, feedPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			v.tokens.apply(t.ID, t)
			version, after = t.Version, t.ID
		}
		if len(page) < feedPage {
			break
		}
	}
	return nil
}

// flush writes what is pending; what cannot be written now is kept for later.
func (v *View) flush(ctx context.Context) {
	if err := v.Flush(ctx); err != nil && v.failure.Load() == nil {
		v.hooks.Load().Postponed(err)
	}
}
