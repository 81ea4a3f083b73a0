package extauthz

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// Paths of the Authorization API 1.0 (OpenID AuthZEN). The search APIs are not served: a
// table of patterns has no list of subjects and resources.
const (
	EvaluationPath    = "/access/v1/evaluation"
	EvaluationsPath   = "/access/v1/evaluations"
	AuthZENConfigPath = "/.well-known/authzen-configuration"
)

const (
	// maxEvaluationBytes bounds a question, of which maxEvaluations may be in one.
	maxEvaluationBytes = 1 << 20
	maxEvaluations     = 1000
)

// AuthZEN answers applications that ask the table themselves (Authorization API 1.0):
// may this subject do this to this resource? The subject is not verified: whoever asks
// has done that, and so is asked for a credential himself. A route has to allow him
// to POST to [EvaluationPath], as it would for any upstream; a public one does not.
//
// The action's name is what routes name as method; the resource's id is a path or a URL,
// and else the last part of the path /TYPE/ID; its property `hostname` is a host. The subject's type, or its property `authenticator`, names
// an authenticator; `realm` follows from it, and username, tenant, roles, scopes, issuer
// and attributes are further properties. Texts in the context are context extensions;
// `source` there is the client's address. What is not named here is ignored.
type AuthZEN struct {
	gate *Gate
}

// NewAuthZEN makes the door of gate for applications.
func NewAuthZEN(gate *Gate) *AuthZEN { return &AuthZEN{gate: gate} }

// ServeHTTP answers [EvaluationPath] and [EvaluationsPath].
func (z *AuthZEN) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id := r.Header.Get("X-Request-Id"); id != "" {
		w.Header().Set("X-Request-Id", id) // any text, and the same one
	}
	answer, snapshot := z.admit(r)
	if snapshot == nil {
		reply(w, answer, plainDialect)
		return
	}
	request, status, detail := readQuestion(w, r)
	if status != http.StatusOK {
		writeProblem(w, status, detail)
		return
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	body, err := snapshot.answer(request, path == EvaluationsPath)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, body)
}

// admit has the gate decide whether r may ask at all. The snapshot is nil if not.
func (z *AuthZEN) admit(r *http.Request) (*Answer, *Snapshot) {
	x := &exchange{call: Call{
		Door: Evaluations, HTTP: true, Method: r.Method, Host: r.Host, Target: r.RequestURI, Scheme: "http",
		Headers: headersOf(r), Source: peerAddr(r.RemoteAddr), BodyPartial: true,
	}}
	if r.TLS != nil {
		x.call.Scheme = "https"
	}
	x.call.TooLarge = len(x.call.Headers) > maxHeaders
	z.gate.run(r.Context(), x, nil)
	s, d := z.gate.Snapshot(), &x.answer.Decision
	switch {
	case !x.answer.Allowed():
		return &x.answer, nil
	case d.Reason != policy.ReasonMet || d.Principal == nil || s == nil:
		// Public routes let nobody ask about others.
		refusal := &exchange{request: x.request, answer: Answer{ID: x.answer.ID, Decision: verdict(policy.ReasonNoRoute)}}
		z.gate.empty.writeRefusal(refusal, nil)
		return &refusal.answer, nil
	}
	return &x.answer, s
}

// readQuestion reads the body of a request. If the status is not 200, the text says
// what is wrong with it.
func readQuestion(w http.ResponseWriter, r *http.Request) (request map[string]any, status int, detail string) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, http.StatusBadRequest, "the Content-Type is not application/json"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvaluationBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB"
	}
	if err == nil {
		request, err = authn.DecodeObject(body)
	}
	if err != nil {
		return nil, http.StatusBadRequest, "the body is not an evaluation request in JSON"
	}
	return request, http.StatusOK, ""
}

// serveConfig answers [AuthZENConfigPath]. The identifier of this decision point is
// the URL by which the client reached it.
func (z *AuthZEN) serveConfig(w http.ResponseWriter, r *http.Request) {
	base := baseURL(r, z.gate.Snapshot())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", metadataMaxAge)
	_ = json.NewEncoder(w).Encode(map[string]string{ // a client that has gone needs no answer
		"policy_decision_point":       base,
		"access_evaluation_endpoint":  base + EvaluationPath,
		"access_evaluations_endpoint": base + EvaluationsPath,
	})
}

// metadataMaxAge lets clients keep the document, which depends on the URL only.
const metadataMaxAge = "max-age=300"

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// writeProblem answers a question that cannot be understood. detail is about the
// question only.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", typeProblem)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": statusTitle(status), "status": status, "detail": detail})
}
