package serve

import (
	"crypto/tls"
	"errors"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// reload reads the file again. A broken one changes nothing but what is reported.
func (s *service) reload() {
	before := s.loaded.Load()
	loaded, report := config.Load(s.options.Config, s.options.Env, before)
	if loaded == nil {
		s.refuse(report)
		return
	}
	// All or nothing: every certificate is read before the first is used.
	certificates := make([]*tls.Config, len(s.secured))
	var errs []error
	for i, security := range s.secured {
		var err error
		certificates[i], err = security.read()
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err == nil {
		err = s.use(loaded, report)
	}
	if err != nil {
		loaded.Close()
		s.refuse(&config.Report{Errors: []config.Problem{{Message: err.Error()}}})
		return
	}
	for i, security := range s.secured {
		security.current.Store(certificates[i])
	}
	if s.watcher != nil {
		s.watcher.Watch(loaded.Files)
	}
	time.AfterFunc(closeDelay, before.Close)
}

// use makes loaded decide from now on.
func (s *service) use(loaded *config.Loaded, report *config.Report) error {
	records, collector, err := s.openRecords(loaded.DecisionLog, s.collector)
	if err != nil {
		return err
	}
	var traced *configv1.Tracing
	if before := s.loaded.Load(); before != nil {
		traced = before.Config.GetTracing()
	}
	if err := s.useTracing(traced, loaded.Config.GetTracing()); err != nil {
		err = errors.Join(err, s.closeRecords(records))
		if collector != s.collector {
			err = errors.Join(err, s.closeCollector(collector))
		}
		return err
	}
	s.watchStore(loaded.Store)
	loaded.Start()
	now := time.Now()
	s.metrics.Use(loaded.Snapshot, s.options.ShadowAll, now)
	// Routes as written: the snapshot has what was made of them, at half the memory.
	loaded.Config.Routes = nil
	loaded.Gate.Table.Settle()
	loaded.Gate.TCP.Settle()
	s.gate.Swap(loaded.Snapshot)
	s.loaded.Store(loaded)
	go s.tidy()
	s.useRecords(records, collector)
	s.mu.Lock()
	s.loadedAt, s.broken = now, nil
	s.mu.Unlock()
	s.log.Info("configuration loaded", zap.String("file", s.options.Config), zap.String("hash", report.Summary.Hash),
		zap.Int("routes", report.Summary.Routes), zap.Strings("authenticators", report.Summary.Authenticators))
	for _, p := range report.Warnings {
		s.log.Warn("configuration warning", zap.String("position", p.At.String()), zap.String("problem", p.Message), zap.String("remedy", p.Remedy))
	}
	if s.options.ShadowAll {
		s.log.Warn("shadow-all: what is forbidden or unauthenticated passes, without identity")
	}
	return nil
}

// tidy gives back what reading a file took, which is several times the memory of what is
// made of it, and the pages of the binary that only that touched. Checks go on meanwhile.
func (s *service) tidy() {
	debug.FreeOSMemory()
	s.garbage.adjust()
	if err := unmapUnused(); err != nil {
		s.log.Warn("the binary's pages stay mapped", zap.Error(err))
	}
}

// refuse reports every error of a file that does not replace the one in use.
func (s *service) refuse(report *config.Report) {
	s.metrics.ReloadFailed()
	s.mu.Lock()
	s.broken = &report.Errors[0]
	s.mu.Unlock()
	for _, p := range report.Errors {
		s.log.Error("configuration error", zap.String("position", p.At.String()), zap.String("problem", p.Message), zap.String("remedy", p.Remedy))
	}
	s.log.Error("configuration not reloaded: the one before stays", zap.String("file", s.options.Config), zap.Int("errors", len(report.Errors)))
}

// path is a path of the configuration file, relative to its folder.
func (s *service) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(s.options.Config), p)
}
