package authn

import (
	"context"
	"errors"
	"sync"
	"time"
)

// NonceStore remembers nonces, so that a signed request counts once.
type NonceStore interface {
	// UseNonce takes a peer's nonce: false means that it was taken before. expires is
	// when a message with it would be refused for its age; until then it is kept.
	UseNonce(ctx context.Context, peer, nonce string, expires, now time.Time) (fresh bool, err error)
}

// maxNonces bounds the memory of [Nonces]: some 100 MB. Only messages that peers have
// signed get here.
const maxNonces = 1 << 20

var errTooManyNonces = errors.New("more signed requests came within their time than can be remembered")

// Nonces is a [NonceStore] in memory, for one replica. Its zero value is ready.
type Nonces struct {
	mu    sync.Mutex
	taken map[nonceName]time.Time // until when
	swept time.Time
}

type nonceName struct{ peer, nonce string }

// nonceSweep is how often expired nonces are dropped.
const nonceSweep = 10 * time.Second

// UseNonce implements [NonceStore].
func (n *Nonces) UseNonce(_ context.Context, peer, nonce string, expires, now time.Time) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.taken == nil {
		n.taken = make(map[nonceName]time.Time)
	}
	if now.Sub(n.swept) >= nonceSweep || len(n.taken) >= maxNonces {
		n.swept = now
		for name, until := range n.taken {
			if until.Before(now) {
				delete(n.taken, name)
			}
		}
	}
	name := nonceName{peer, nonce}
	if until, ok := n.taken[name]; ok && !until.Before(now) {
		return false, nil
	}
	if len(n.taken) >= maxNonces {
		return false, errTooManyNonces
	}
	n.taken[name] = expires
	return true, nil
}
