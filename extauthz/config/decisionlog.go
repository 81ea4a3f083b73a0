package config

import (
	"path/filepath"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// What the decision log does unless told otherwise.
const (
	defaultLogBytes = 100 << 20
	defaultLogKeep  = 5
)

// Bounds of the size at which the decision log is rotated: smaller files would be renamed
// all the time, larger ones are of no use to anybody.
const (
	minLogBytes = 64 << 10
	maxLogBytes = 64 << 30
)

// minPseudonymKey is how long the key of pseudonyms must be, in bytes: who can guess it
// can find out whom they stand for.
const minPseudonymKey = 16

// A DecisionLog says which decisions are recorded, and where.
type DecisionLog struct {
	File          string       // absolute or relative to the working folder; "": standard error
	CollectorOnly bool         // neither a file nor standard error
	Endpoint      string       // of an OpenTelemetry collector: http, https, grpc or grpcs; "": none
	SampleAllowed float64      // the share of allowed decisions that are recorded, 0 to 1
	PseudonymKey  authn.Secret // empty: personal values are written as they are
	MaxBytes      int64        // of the file, before it is rotated
	Keep          int          // how many rotated files are kept
}

func (b *builder) buildDecisionLog() {
	m := b.config.GetDecisionLog()
	if m == nil {
		return
	}
	b.log = &DecisionLog{SampleAllowed: 1, MaxBytes: defaultLogBytes, Keep: defaultLogKeep}
	if m.SampleAllowed != nil {
		b.log.SampleAllowed = m.GetSampleAllowed()
	}
	if m.Keep != nil {
		b.log.Keep = int(m.GetKeep())
	}
	if n := b.size(m, "max_bytes", m.GetMaxBytes(), minLogBytes, maxLogBytes); n != 0 {
		b.log.MaxBytes = int64(n)
	}
	if m.GetOtlpEndpoint() != "" {
		b.checkCollector(m, "http", "https", "grpc", "grpcs")
		b.log.Endpoint = m.GetOtlpEndpoint()
	}
	switch file := m.GetFile(); file {
	case "", "stderr":
	case "none":
		b.log.CollectorOnly = true
		if m.GetOtlpEndpoint() == "" {
			b.errorf(b.pos.field(m, "file"), "give otlp_endpoint as well, or remove decision_log", "decisions are recorded nowhere")
		}
	default:
		if !filepath.IsAbs(file) {
			file = filepath.Join(b.dir, file)
		}
		b.log.File = file
	}
	if key, ok := b.secret(m.GetPseudonymKey(), false); ok {
		b.log.PseudonymKey = key
		if len(key.Reveal()) < minPseudonymKey {
			b.errorf(b.pos.field(m, "pseudonym_key"), "take one of 32 random bytes", "the key is shorter than %d bytes", minPseudonymKey)
		}
	}
}
