# What each target needs beyond Go is fetched once, pinned and checked, into the user's
# cache folder (test/tools, envoy/find.go): Envoy, the identity providers, hadolint. Programs
# of the machine (python3 with pip, node, java, PostgreSQL) are installed as root only.

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
	$(GO) run ./test/tools/fetch

.PHONY: check
check: lint ## before a commit: format, vet, lint, unit tests with the race detector
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) test -race $(UNIT)

.PHONY: lint
lint: ## golangci-lint; the first run builds it, which takes two minutes
	$(GO) run $(GOLANGCI_LINT) run

.PHONY: systems
systems: tools ## the five systems that configurations in test/systems serve, requirement by requirement
	$(GO) test -v ./test/systems

.PHONY: acceptance
acceptance: tools ## what looks from outside, and the store under twenty kills
	ACCEPTANCE=1 $(GO) test -json -timeout 30m ./test/... ./extauthz/tokens | $(GO) run ./test/report

.PHONY: bench
bench: ## CPU per Check beside a server that does nothing
	$(GO) test -run '^$$' -bench . -benchmem ./policy/... ./extauthz/...
	$(GO) run ./test/bench

.PHONY: generate
generate: ## Go code and the configuration reference from the protobuf schema
	bash proto/generate.sh
	$(GO) test ./extauthz/config -run Reference -update
