package portal

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// refuse is an error for the caller.
func refuse(code codes.Code, message string) error { return status.Error(code, message) }

// answerFor is the error that the caller gets for one of the store: what they did
// wrong, or that the store is to blame, without the cause.
func answerFor(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tokens.ErrNotFound):
		return refuse(codes.NotFound, "there is none with this id")
	case errors.Is(err, tokens.ErrInvalid), errors.Is(err, tokens.ErrCursor):
		return refuse(codes.InvalidArgument, err.Error())
	case errors.Is(err, tokens.ErrRevoked):
		return refuse(codes.FailedPrecondition, "it is revoked")
	}
	return refuse(codes.Unavailable, "the store cannot be asked; a change may have been made all the same")
}

// A refusal is the answer to a request that does not reach a method.
type refusal struct {
	status  int
	code    codes.Code
	message string
	answer  *extauthz.Answer // of the gate; nil: it was not the gate that refused
}

func refusalOf(answer *extauthz.Answer) *refusal {
	r := &refusal{status: answer.Status, answer: answer}
	switch answer.Decision.Outcome {
	case policy.Unauthenticated:
		r.code, r.message = codes.Unauthenticated, "unauthenticated"
	case policy.Malformed:
		r.code, r.message = codes.InvalidArgument, "malformed"
	case policy.Unavailable:
		r.code, r.message = codes.Unavailable, "unavailable"
	default:
		r.code, r.message = codes.PermissionDenied, "forbidden"
	}
	if r.status < 400 || r.status > 599 {
		// The gate sends browsers to sign in; here nobody is a browser.
		r.status = http.StatusUnauthorized
	}
	r.message += " (decision " + answer.ID + ")"
	return r
}

func (r *refusal) write(w http.ResponseWriter, request *http.Request) {
	if r.answer != nil {
		for _, h := range r.answer.Headers() {
			if h.Name == "www-authenticate" || h.Name == "retry-after" {
				w.Header().Add(h.Name, h.Value)
			}
		}
	}
	if isGRPC(request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(r.code)))
		w.Header().Set("Grpc-Message", url.PathEscape(r.message))
		w.WriteHeader(http.StatusOK)
		return
	}
	writeError(w, r.status, r.code, r.message)
}

// writeError is the JSON form of an error.
func writeError(w http.ResponseWriter, status int, code codes.Code, message string) {
	body, err := json.Marshal(map[string]string{"code": codeNames[code], "message": message})
	if err != nil {
		panic(err) // strings always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the caller may be gone
}

// codeNames are the names of codes in JSON, as in the Connect protocol.
var codeNames = map[codes.Code]string{
	codes.InvalidArgument:    "invalid_argument",
	codes.NotFound:           "not_found",
	codes.PermissionDenied:   "permission_denied",
	codes.Unauthenticated:    "unauthenticated",
	codes.FailedPrecondition: "failed_precondition",
	codes.Unimplemented:      "unimplemented",
	codes.Unavailable:        "unavailable",
	codes.Internal:           "internal",
}

// statuses are the HTTP statuses of codes; any other is 500.
var statuses = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.NotFound:           http.StatusNotFound,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.Unauthenticated:    http.StatusUnauthorized,
	codes.FailedPrecondition: http.StatusBadRequest,
	codes.Unimplemented:      http.StatusNotFound,
	codes.Unavailable:        http.StatusServiceUnavailable,
}
