# What each target needs beyond Go is fetched once, pinned and checked, into the user's
# cache folder (test/tools, envoy/find.go): Envoy, the identity providers, hadolint. Programs
# of the machine (python3 with pip, node, java, PostgreSQL) are installed as root only.

GO ?= go
CYCLONEDX = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The version that Go gives a commit without a tag, for binaries built without asking git.
COMMIT = $(shell TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --abbrev=12 --format=v0.0.0-%cd-%h)

# What of the end-to-end tests "make race" runs: where most happens at the same time. It is
# no part of check, as a binary with the race detector takes minutes to build. Floods are not
# among them: it is too slow for those, and takes more memory than they allow.
RACES = ^Test(ReloadsLoseNothing|ConnectionAge|FaultConnections|FaultIssuer|FaultStore|Tracing)$$

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
	@$(MAKE) unit

.PHONY: unit
unit: ## unit tests with the race detector
	$(GO) test -race $(UNIT)

.PHONY: race
race: tools ## the real binary with the race detector, under reloads, rotation, outages and crowds
	RACE=1 $(GO) test -count=1 -timeout 30m -run '$(RACES)' ./test/e2e

.PHONY: lint
lint: ## golangci-lint; the first run builds it, which takes two minutes
	$(GO) run $(GOLANGCI_LINT) run

.PHONY: systems
systems: tools ## the five systems that configurations in test/systems serve, requirement by requirement
	$(GO) test -v ./test/systems

.PHONY: acceptance
acceptance: ## what looks from outside, live control planes, and the store under twenty kills
	ACCEPTANCE=1 $(GO) run ./test/tools/fetch
	ACCEPTANCE=1 $(GO) test -json -timeout 60m ./test/... ./extauthz/tokens ./policy/diff ./cmd/gatehouse ./cmd/gatehouse/internal/compare | $(GO) run ./test/report

.PHONY: recordings
recordings: ## test/mesh/generated anew, from istiod and the manifests in envoy/istio
	ACCEPTANCE=1 $(GO) run ./test/tools/fetch
	ACCEPTANCE=1 $(GO) test -count=1 -timeout 30m -run '^TestIstio$$' ./test/mesh/live -update

.PHONY: soak
soak: tools ## steady load with rotation, reloads and revocation; DURATION=20m
	DURATION=$(or $(DURATION),20m) $(GO) test -v -timeout 24h -run '^TestSoak$$' ./test/e2e

.PHONY: bench
bench: ## CPU per Check beside a server that does nothing (PROFILE=cpu leaves pprof files in bench/)
	$(GO) test -run '^$$' -bench . -benchmem ./policy/... ./extauthz/...
	$(GO) run ./test/bench $(if $(PROFILE),-profile $(PROFILE))

.PHONY: reproducible
reproducible: ## build twice from different folders; the binaries must be equal
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; mkdir "$$dir/elsewhere"; \
	git archive HEAD | tar -x -C "$$dir/elsewhere"; \
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o "$$dir/here" ./cmd/gatehouse; \
	(cd "$$dir/elsewhere" && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o "$$dir/there" ./cmd/gatehouse); \
	sha256sum "$$dir/here" "$$dir/there"; cmp "$$dir/here" "$$dir/there"

.PHONY: sbom
sbom: build ## what the binary is made of, in bin/: every module with its version and hash
	$(GO) version -m bin/gatehouse > bin/gatehouse.modules.txt
	version=$$(bin/gatehouse version | cut -d' ' -f2); \
	if [ "$$version" = "(devel)" ]; then version=$(COMMIT); fi; \
	$(GO) run $(CYCLONEDX) bin -json -version "$$version" -output bin/gatehouse.cdx.json bin/gatehouse

.PHONY: vuln
vuln: ## known vulnerabilities; needs https://vuln.go.dev or VULNDB=URL, so it is no part of test
	@$(GO) run $(GOVULNCHECK) $(if $(VULNDB),-db $(VULNDB)) ./... || { \
	echo "make vuln: either vulnerabilities are listed above, or the database could not be read."; \
	echo "It is at https://vuln.go.dev; a copy of it will do: make vuln VULNDB=https://... or VULNDB=file:///..."; \
	exit 1; }

.PHONY: generate
generate: ## Go code and the configuration reference from the protobuf schema
	bash proto/generate.sh
	$(GO) test ./extauthz/config -run Reference -update
