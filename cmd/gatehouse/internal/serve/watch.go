package serve

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"slices"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// A fingerprint is what a set of files held. The zero fingerprint is that of none.
type fingerprint [sha256.Size]byte

// fingerprintOf reads the files. One that cannot be read counts as it is: missing.
func fingerprintOf(files []string) (f fingerprint) {
	h := sha256.New()
	for _, path := range files {
		sum := sha256.New()
		if file, err := os.Open(path); err == nil {
			_, _ = io.Copy(sum, file) // half a file differs from a whole one
			_ = file.Close()
		}
		h.Write(sum.Sum(nil))
	}
	h.Sum(f[:0])
	return f
}

// watch tells when files of the configuration may have changed. Where they cannot be
// watched SIGHUP remains.
func (s *service) watch(ctx context.Context, files []string) <-chan struct{} {
	watcher, err := config.NewWatcher(ctx, files)
	if err != nil {
		s.log.Warn("changes of the configuration are not noticed: send SIGHUP", zap.Error(err))
		return nil
	}
	s.watcher = watcher
	return watcher.Changes()
}

// changed tells whether the files are others than when they were last loaded, or tried.
func (s *service) changed() bool { return fingerprintOf(s.loaded.Load().Files) != s.seen }

// tried notes what the files held before they were loaded from now on: a change in
// between then counts as one. loaded is nil if they do not load.
func (s *service) tried(before *config.Loaded, held fingerprint, loaded *config.Loaded) {
	s.seen = held
	if loaded == nil {
		return
	}
	if !slices.Equal(before.Files, loaded.Files) {
		s.seen = fingerprint{} // loads once more at the next notice
	}
	if s.watcher != nil {
		s.watcher.Watch(loaded.Files)
	}
}
