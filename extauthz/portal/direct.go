package portal

import (
	"context"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// Direct calls the admin API's tokens and directory on a store, without a service and
// a network, as the operator. It is a [grpc.ClientConnInterface]. Services that run on
// the store hear of changes like those of another replica.
type Direct struct{ methods methods }

// NewDirect makes a Direct. The store must have been migrated.
func NewDirect(store *tokens.Store) *Direct {
	view := tokens.NewView(store, tokens.ViewOptions{})
	options := Options{View: func() *tokens.View { return view }, Gate: extauthz.NewGate(extauthz.Options{})}
	d := &Direct{methods: methods{}}
	adminv1.RegisterTokensServer(d.methods, &tokenService{options: options})
	adminv1.RegisterDirectoryServer(d.methods, &directoryService{options: options})
	adminv1.RegisterServiceServer(d.methods, &service{options: options})
	return d
}

// Invoke implements [grpc.ClientConnInterface].
func (d *Direct) Invoke(ctx context.Context, path string, request, answer any, _ ...grpc.CallOption) error {
	called, ok := d.methods[path]
	if !ok {
		return refuse(codes.Unimplemented, "there is no method "+path)
	}
	ctx = context.WithValue(ctx, callerKey{}, operator(os.Getuid()))
	copyRequest := func(into any) error {
		proto.Merge(into.(proto.Message), request.(proto.Message))
		return nil
	}
	got, err := called.handler(called.service, ctx, copyRequest, answerFaults)
	if err != nil {
		return err
	}
	proto.Merge(answer.(proto.Message), got.(proto.Message))
	return nil
}

// NewStream implements [grpc.ClientConnInterface]; there are no streams.
func (d *Direct) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, refuse(codes.Unimplemented, "there are no streams")
}

// operator is who works on the machine itself.
func operator(uid int) Caller {
	return Caller{
		Actor:         tokens.Actor{Owner: tokens.Owner{Issuer: tokens.Operator, Subject: "uid:" + strconv.Itoa(uid)}},
		Administrator: true,
	}
}
