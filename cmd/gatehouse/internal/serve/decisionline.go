package serve

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/jsontext"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxLogged is how much of a text that a client chose is logged, in bytes.
const maxLogged = 512

// appendDecision appends the line that zap's JSON encoder would write of a
// [decisionLine], at a fraction of its cost; the tests hold one against the other.
func appendDecision(b []byte, level zapcore.Level, now time.Time, r *extauthz.Record) []byte {
	d := &r.Decision
	w := jsontext.Writer{Buffer: b}
	w.Begin()
	w.Text("level", level.String())
	w.Name("time")
	w.Buffer = now.AppendFormat(append(w.Buffer, '"'), time.RFC3339Nano)
	w.Buffer = append(w.Buffer, '"')
	w.Text("msg", "decision")
	w.Name("decision_id")
	w.Buffer = jsontext.AppendString(w.Buffer, r.ID)
	w.Text("outcome", d.Outcome.String())
	w.Text("reason", d.Reason.String())
	if d.Route != nil {
		w.Name("route")
		w.Buffer = jsontext.AppendString(w.Buffer, d.Route.Name)
	}
	if d.At.Line != 0 {
		w.Text("position", d.At.String())
	}
	if q := r.Request; q != nil {
		method, host, path := asked(r)
		w.Text("method", cut(method))
		w.Text("host", cut(host))
		w.Text("path", cut(path))
		if q.Source.IsValid() {
			w.Name("source")
			w.Buffer = q.Source.AppendTo(append(w.Buffer, '"'))
			w.Buffer = append(w.Buffer, '"')
		}
	}
	w.Text("authenticator", cut(r.Authenticator))
	if p := d.Principal; p != nil {
		w.Text("subject", cut(p.Subject))
		w.Text("username", cut(p.Username))
		w.Text("tenant", cut(p.Tenant))
	}
	w.Int("status", r.Status)
	w.Name("latency_ms")
	w.Buffer = appendMillis(w.Buffer, r.Latency)
	if r.Door != extauthz.GRPC {
		w.Text("door", r.Door.String())
	}
	w.True("redirect", r.Redirect)
	if r.Ignored != policy.ReasonNone {
		w.Text("ignored", r.Ignored.String())
	}
	if s := r.Shadow; s != nil {
		w.Text("shadow_outcome", s.Outcome.String())
		w.Text("shadow_reason", s.Reason.String())
		if s.Route != nil {
			w.Name("shadow_route")
			w.Buffer = jsontext.AppendString(w.Buffer, s.Route.Name)
		}
	}
	if r.Detail != nil {
		w.Text("detail", cut(r.Detail.Error()))
	}
	if r.Panic != nil {
		w.Name("panic")
		w.Buffer = jsontext.AppendString(w.Buffer, fmt.Sprint(r.Panic))
		w.Name("stack")
		w.Buffer = jsontext.AppendString(w.Buffer, string(r.Stack))
	}
	w.End()
	return append(w.Buffer, '\n')
}

// appendMillis appends milliseconds with up to three digits after the point.
func appendMillis(b []byte, d time.Duration) []byte {
	micros := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, micros/1000, 10)
	if micros %= 1000; micros == 0 {
		return b
	}
	b = append(b, '.', byte('0'+micros/100), byte('0'+micros/10%10), byte('0'+micros%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// asked is what the request was for; of a malformed one as it came, without its query.
func asked(r *extauthz.Record) (method, host, path string) {
	method, host, path = r.Request.Method, r.Request.Host, r.Request.Path
	if path == "" && r.Call != nil {
		method, host = r.Call.Method, r.Call.Host
		path, _, _ = strings.Cut(r.Call.Target, "?")
	}
	return method, host, path
}

// cut is not more of a text than maxLogged.
func cut(text string) string {
	if len(text) > maxLogged {
		return text[:maxLogged] + "…"
	}
	return text
}

// decisionLine writes a record's fields for people (the console format). It never holds a credential: neither headers nor
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
		method, host, path := asked((*extauthz.Record)(r))
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
	if text != "" {
		e.AddString(key, cut(text))
	}
}
