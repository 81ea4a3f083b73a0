#!/usr/bin/env bash
# Regenerates the Go code of the protobuf schemas. Needs Go and Python; everything it
# installs is pinned and goes to a cache outside the tree.
set -euo pipefail
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gatehouse/proto
mkdir -p "$cache/bin"
if [ ! -x "$cache/py/bin/python" ]; then
  python3 -m venv "$cache/py"
  "$cache/py/bin/pip" install -q grpcio-tools==1.85.1
fi
GOBIN=$cache/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$cache/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
validate=$(cd "$cache" && go mod download -json github.com/bufbuild/protovalidate@v1.2.2 | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
PATH=$cache/bin:$PATH "$cache/py/bin/python" -m grpc_tools.protoc \
  -I . -I "$validate/proto/protovalidate" \
  --go_out=. --go_opt=paths=source_relative \
  --go-grpc_out=. --go-grpc_opt=paths=source_relative \
  $(find gatehouse -name '*.proto' | sort)
