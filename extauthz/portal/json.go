package portal

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// methods are the unary methods of services by their path, `/package.Service/Method`,
// for callers that speak JSON. It is a [grpc.ServiceRegistrar].
type methods map[string]method

type method struct {
	service any
	handler grpc.MethodHandler
}

// RegisterService implements [grpc.ServiceRegistrar].
func (m methods) RegisterService(desc *grpc.ServiceDesc, service any) {
	for i := range desc.Methods {
		m["/"+desc.ServiceName+"/"+desc.Methods[i].MethodName] = method{service, desc.Methods[i].Handler}
	}
}

// ServeHTTP reads a request as JSON, calls the method, and writes its answer as JSON.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	called, ok := m[r.URL.Path]
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what cannot be read is no JSON
	switch {
	case !ok:
		writeError(w, http.StatusNotFound, codes.Unimplemented, "there is no method "+r.URL.Path)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, codes.Unimplemented, "methods are called with POST")
		return
	case media != "application/json":
		// Scripts of other sites cannot send this type without being asked for leave first.
		writeError(w, http.StatusUnsupportedMediaType, codes.InvalidArgument, "the content type must be application/json")
		return
	}
	answer, err := called.handler(called.service, r.Context(), decoder(w, r), answerFaults)
	if err != nil {
		s := status.Convert(err)
		code, known := statuses[s.Code()]
		if !known {
			code = http.StatusInternalServerError
		}
		writeError(w, code, s.Code(), s.Message())
		return
	}
	body, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: false}.Marshal(answer.(proto.Message))
	if err != nil {
		writeError(w, http.StatusInternalServerError, codes.Internal, "the answer cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the caller may be gone
}

// decoder reads the request's body into a message.
func decoder(w http.ResponseWriter, r *http.Request) func(any) error {
	return func(into any) error {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessageBytes))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return refuse(codes.InvalidArgument, "the request is too large")
		case err != nil:
			return refuse(codes.InvalidArgument, "the request broke off")
		case strings.TrimSpace(string(body)) == "":
			return nil
		}
		if err := protojson.Unmarshal(body, into.(proto.Message)); err != nil {
			return refuse(codes.InvalidArgument, "reading the request: "+strings.TrimPrefix(err.Error(), "proto: "))
		}
		return nil
	}
}

// answerFaults calls a method, and makes a panic an error of ours.
func answerFaults(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		if recover() != nil {
			answer, err = nil, refuse(codes.Internal, "a fault of ours")
		}
	}()
	return handler(ctx, request)
}
