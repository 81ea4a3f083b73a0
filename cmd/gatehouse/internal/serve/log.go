package serve

import (
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// logBuffer and flushEvery bound how much of the decisions' log a kill -9 may lose.
	// Without a buffer each Check would cost a system call.
	logBuffer  = 64 << 10
	flushEvery = 50 * time.Millisecond

	// maxLogged is how much of a text that a client chose is logged, in bytes.
	maxLogged = 512
)

// LogFormats are the names of log formats, the default first.
var LogFormats = []string{"json", "console"}

// A Log is the log of one process: lines about itself, written at once, and one line per
// decision, written a little later.
type Log struct {
	*zap.Logger
	decisions *zap.Logger
	buffer    *zapcore.BufferedWriteSyncer
}

// NewLog logs to w what is at least of level.
func NewLog(w io.Writer, format string, level zapcore.Level) (*Log, error) {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey = "time"
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(config)
	case "console":
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	default:
		return nil, fmt.Errorf("unknown log format %q", format)
	}
	out := zapcore.Lock(zapcore.AddSync(w))
	buffer := &zapcore.BufferedWriteSyncer{WS: out, Size: logBuffer, FlushInterval: flushEvery}
	return &Log{
		Logger:    zap.New(zapcore.NewCore(encoder, out, level)),
		decisions: zap.New(zapcore.NewCore(encoder, buffer, level)),
		buffer:    buffer,
	}, nil
}

// Close writes what is buffered.
func (l *Log) Close() error { return l.buffer.Stop() }

// Decision writes the one line of a decision.
func (l *Log) Decision(r *extauthz.Record) {
	level := zapcore.InfoLevel
	switch {
	case r.Panic != nil:
		level = zapcore.ErrorLevel
	case r.Decision.Outcome == policy.Unavailable:
		level = zapcore.WarnLevel
	}
	if entry := l.decisions.Check(level, "decision"); entry != nil {
		entry.Write(zap.Inline((*decisionLine)(r)))
	}
}

// decisionLine writes a record's fields. It never holds a credential: neither headers nor
// the query are in it.
type decisionLine extauthz.Record

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (r *decisionLine) MarshalLogObject(e zapcore.ObjectEncoder) error {
	d := &r.Decision
	e.AddString("decision_id", r.ID)
	e.AddString("outcome", d.Outcome.String())
	e.AddString("reason", d.Reason.String())
	if d.Route != nil {
		e.AddString("route", d.Route.Name)
	}
	if d.At.Line != 0 {
		e.AddString("position", d.At.String())
	}
	if q := r.Request; q != nil {
		method, host, path := q.Method, q.Host, q.Path
		if path == "" && r.Call != nil { // malformed: as it came
			method, host = r.Call.Method, r.Call.Host
			path, _, _ = strings.Cut(r.Call.Target, "?")
		}
		addText(e, "method", method)
		addText(e, "host", host)
		addText(e, "path", path)
		if q.Source.IsValid() {
			e.AddString("source", q.Source.String())
		}
	}
	addText(e, "authenticator", r.Authenticator)
	if p := d.Principal; p != nil {
		addText(e, "subject", p.Subject)
		addText(e, "username", p.Username)
		addText(e, "tenant", p.Tenant)
	}
	e.AddInt("status", r.Status)
	e.AddFloat64("latency_ms", float64(r.Latency.Microseconds())/1000)
	if r.Door != extauthz.GRPC {
		e.AddString("door", r.Door.String())
	}
	if r.Redirect {
		e.AddBool("redirect", true)
	}
	if r.Ignored != policy.ReasonNone {
		e.AddString("ignored", r.Ignored.String())
	}
	if s := r.Shadow; s != nil {
		e.AddString("shadow_outcome", s.Outcome.String())
		e.AddString("shadow_reason", s.Reason.String())
		if s.Route != nil {
			e.AddString("shadow_route", s.Route.Name)
		}
	}
	if r.Detail != nil {
		addText(e, "detail", r.Detail.Error())
	}
	if r.Panic != nil {
		e.AddString("panic", fmt.Sprint(r.Panic))
		e.AddString("stack", string(r.Stack))
	}
	return nil
}

// addText adds a text unless it is empty, and not more of it than maxLogged.
func addText(e zapcore.ObjectEncoder, key, text string) {
	if text == "" {
		return
	}
	if len(text) > maxLogged {
		text = text[:maxLogged] + "…"
	}
	e.AddString(key, text)
}
