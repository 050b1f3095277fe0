package main

import (
	"context"
	"flag"
	"net"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// allowAll allows everything. With `logged` it names each call to Envoy, as an audit needs it.
type allowAll struct {
	auth.UnimplementedAuthorizationServer
	logged bool
}

func (a *allowAll) Check(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	response := &auth.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{}},
	}
	if a.logged {
		id := structpb.NewStringValue("019e0000-0000-7000-8000-000000000000")
		response.DynamicMetadata = &structpb.Struct{
			Fields: map[string]*structpb.Value{"decision_id": id},
		}
	}
	return response, nil
}

// drain takes Envoy's access log, and reads nothing of it.
func drain(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	return stream.SendMsg(&emptypb.Empty{})
}

// authz is an always-allow ext_authz server on a Unix socket.
func authz(arguments []string) error {
	flags := flag.NewFlagSet("authz", flag.ExitOnError)
	socket := flags.String("socket", "", "socket file to listen on")
	logged := flags.Bool("logged", false, "name each call, and drain the access log")
	flags.Parse(arguments)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(drain))
	auth.RegisterAuthorizationServer(server, &allowAll{logged: *logged})
	return server.Serve(listener)
}
