package serve

import (
	"context"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// watch tells when the files of the configuration in use may have been written to. Where
// that cannot be watched the process goes on, and SIGHUP is what is left.
func (s *service) watch(ctx context.Context) <-chan struct{} {
	watcher, err := config.NewWatcher(ctx, s.loaded.Load().Files)
	if err != nil {
		s.log.Warn("files are not watched: SIGHUP reloads", zap.Error(err))
		return nil
	}
	s.watcher = watcher
	return watcher.Changes()
}

// noticed reloads if a file holds anything else by now than was loaded. Notices come for
// less: somebody wrote the same again, or nothing was heard for a minute.
//
// While the files on disk are broken every notice reloads: what mends them may be a file
// that the configuration in use does not have.
func (s *service) noticed() {
	s.mu.Lock()
	broken := s.broken != nil
	s.mu.Unlock()
	if broken || s.loaded.Load().Outdated() {
		s.reload()
	}
}
