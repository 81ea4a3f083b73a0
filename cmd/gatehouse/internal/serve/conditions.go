package serve

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// conditions are the lines of /readyz?verbose. What fails makes the process not ready;
// an issuer that is down does not: its own callers get 503, everybody else is served.
func (s *service) conditions() []Condition {
	conditions := []Condition{s.configuration()}
	if s.draining.Load() {
		conditions = append(conditions, Condition{"draining", Failing, "no new checks, please"})
	}
	if !s.settled.Load() {
		conditions = append(conditions, Condition{"starting", Failing, "fetching the keys of the issuers"})
	}
	conditions = append(conditions, fullListeners(s.bounded)...)
	loaded := s.loaded.Load()
	if loaded == nil {
		return conditions
	}
	now := time.Now()
	for _, entry := range entries(loaded.Gate.Set) {
		if keys := keysOf(entry); keys != nil {
			conditions = append(conditions, issuerCondition(entry.Name, keys.State(), now))
		}
	}
	if view := s.store(); view != nil {
		conditions = append(conditions, storeCondition(view, now))
	}
	if s.watcher == nil {
		conditions = append(conditions, Condition{"watching", Degraded, "files are not watched: SIGHUP reloads"})
	}
	if s.options.ShadowAll {
		conditions = append(conditions, Condition{"shadow-all", Degraded, "what is forbidden or unauthenticated passes"})
	}
	var shadows []string
	for _, r := range loaded.Gate.Routes {
		if r.Policy.Shadow {
			shadows = append(shadows, r.Policy.Name)
		}
	}
	if len(shadows) > 0 {
		const most = 5
		names := strings.Join(shadows[:min(most, len(shadows))], ", ")
		if len(shadows) > most {
			names += fmt.Sprintf(" and %d more", len(shadows)-most)
		}
		conditions = append(conditions, Condition{"routes in shadow mode", Degraded, names})
	}
	return conditions
}

func (s *service) configuration() Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Condition{Name: "configuration", State: Good}
	switch {
	case s.loadedAt.IsZero():
		c.State, c.Detail = Failing, "not loaded"
	case s.broken != nil:
		c.State = Degraded
		c.Detail = fmt.Sprintf("the file is broken, that of %s stays: %s", s.loadedAt.UTC().Format(time.RFC3339), strings.TrimPrefix(s.broken.At.String()+": "+s.broken.Message, ": "))
	default:
		c.Detail = s.loaded.Load().Hash
	}
	return c
}

// entries of a set, which is nil for a configuration without authenticators.
func entries(set *authn.Set) []*authn.Entry {
	if set == nil {
		return nil
	}
	return set.Entries()
}

// keysOf are the keys that an authenticator fetches; nil if it fetches none.
func keysOf(entry *authn.Entry) *authn.KeySet {
	switch a := entry.Authenticator.(type) {
	case *authn.JWT:
		return a.Keys()
	case *authn.KeyClaim:
		return a.Token().Keys()
	}
	return nil
}

func issuerCondition(name string, state authn.KeySetState, now time.Time) Condition {
	c := Condition{Name: "issuer of " + name, State: Degraded}
	switch {
	case !state.Ready && state.LastError != "":
		c.Detail = "its tokens are answered 503: " + state.LastError
	case !state.Ready:
		c.Detail = "no keys yet: its tokens are answered 503"
	case state.Stale:
		c.Detail = fmt.Sprintf("keys of %s ago serve on: %s", now.Sub(state.LastSuccess).Round(time.Second), state.LastError)
	default:
		c.State = Good
		c.Detail = fmt.Sprintf("%d keys, fetched %s ago", state.Keys, now.Sub(state.LastSuccess).Round(time.Second))
	}
	return c
}

// keysPoll is how often WaitForKeys looks.
const keysPoll = 10 * time.Millisecond

// WaitForKeys waits until the keys of every issuer have been fetched once, or could not
// be, or ctx ends. set may be nil.
func WaitForKeys(ctx context.Context, set *authn.Set) {
	tick := time.NewTicker(keysPoll)
	defer tick.Stop()
	for !issuersAsked(set) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// issuersAsked tells whether the keys of every issuer have been fetched, or could not be.
func issuersAsked(set *authn.Set) bool {
	for _, entry := range entries(set) {
		if keys := keysOf(entry); keys != nil {
			if state := keys.State(); state.LastSuccess.IsZero() && state.LastFailure.IsZero() {
				return false
			}
		}
	}
	return true
}
