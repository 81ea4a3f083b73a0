package serve

import (
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

const (
	// issuerLook is how often the state of the key sets is looked at for the log.
	issuerLook = time.Second

	// sayFailingEvery is how often the log repeats that the keys of an issuer cannot be
	// fetched; the metric counts every time.
	sayFailingEvery = time.Minute
)

// issuerWatch tells the log when keys can no longer be fetched, and when they can again.
type issuerWatch struct {
	log  *Log
	said map[string]time.Time // by authenticator: when its failing was last told
}

func newIssuerWatch(log *Log) *issuerWatch {
	return &issuerWatch{log: log, said: map[string]time.Time{}}
}

// look tells what has changed. set may be nil.
func (w *issuerWatch) look(set *authn.Set, now time.Time) {
	failing := map[string]time.Time{}
	for _, entry := range entries(set) {
		keys := keysOf(entry)
		if keys == nil {
			continue
		}
		state := keys.State()
		last, told := w.said[entry.Name]
		if state.LastError == "" {
			if told {
				w.log.Info("keys are fetched again", zap.String("authenticator", entry.Name), zap.String("source", state.Source), zap.Int("keys", state.Keys))
			}
			continue
		}
		if !told || now.Sub(last) >= sayFailingEvery {
			w.log.Warn("keys cannot be fetched", zap.String("authenticator", entry.Name), zap.String("source", state.Source),
				zap.String("error", state.LastError), zap.Bool("last_good_serve", state.Ready), zap.Uint64("failures", state.Failures))
			last = now
		}
		failing[entry.Name] = last
	}
	w.said = failing
}
