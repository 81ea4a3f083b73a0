package serve

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zapio"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// logBuffer and flushEvery bound how much of the decisions' log a kill -9 may lose.
	// Without a buffer each Check would cost a system call.
	logBuffer  = 64 << 10
	flushEvery = 50 * time.Millisecond
)

// LogFormats are the names of log formats, the default first.
var LogFormats = []string{"json", "console"}

// A Log is the log of one process: lines about itself, written at once, and one line per
// decision, written a little later.
type Log struct {
	*zap.Logger
	decisions *zap.Logger
	buffer    *zapcore.BufferedWriteSyncer
	json      bool      // decisions are written by appendDecision, not by zap
	lines     sync.Pool // of *[]byte
}

// NewLog logs to w what is at least of level.
func NewLog(w io.Writer, format string, level zapcore.Level) (*Log, error) {
	config := encoderConfig()
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
	l := &Log{
		Logger:    zap.New(zapcore.NewCore(encoder, out, level)),
		decisions: zap.New(zapcore.NewCore(encoder, buffer, level)),
		buffer:    buffer,
		json:      format == "json",
	}
	l.lines.New = func() any { return new([]byte) }
	return l, nil
}

func encoderConfig() zapcore.EncoderConfig {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey = "time"
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	return config
}

// HTTP takes what a server of net/http has to say of its listener: handshakes that failed,
// and handlers that panicked.
func (l *Log) HTTP(listener string) *log.Logger {
	out := l.With(zap.String("listener", listener))
	return log.New(&complaints{out: &zapio.Writer{Log: out, Level: zapcore.WarnLevel}, log: out, now: time.Now}, "", 0)
}

// complaintsPerMinute is how many lines a server of net/http may write about its clients:
// each handshake that fails is one, so that a flood of them would fill the disk.
const complaintsPerMinute = 10

// complaints are the lines of one server. Those of panics, which are faults of ours, are
// always written.
type complaints struct {
	out io.Writer
	log *zap.Logger
	now func() time.Time

	mu      sync.Mutex
	began   time.Time // of the minute
	written int       // in it
	dropped int       // in it
}

// Write implements [io.Writer], a line at a time.
func (c *complaints) Write(line []byte) (int, error) {
	if !c.takes(line) {
		return len(line), nil
	}
	return c.out.Write(line)
}

func (c *complaints) takes(line []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.began) >= time.Minute {
		if c.dropped > 0 {
			c.log.Warn("more lines like these were left out", zap.Int("lines", c.dropped))
		}
		c.began, c.written, c.dropped = now, 0, 0
	}
	if bytes.Contains(line, []byte("panic")) {
		return true
	}
	if c.written == complaintsPerMinute {
		c.dropped++
		return false
	}
	c.written++
	return true
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
	if !l.json {
		if entry := l.decisions.Check(level, "decision"); entry != nil {
			entry.Write(zap.Inline((*decisionLine)(r)))
		}
		return
	}
	if !l.decisions.Core().Enabled(level) {
		return
	}
	line := l.lines.Get().(*[]byte)
	*line = appendDecision((*line)[:0], level, time.Now(), r)
	_, _ = l.buffer.Write(*line) // a log that cannot be written has nowhere to say so
	l.lines.Put(line)
}
