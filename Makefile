.DEFAULT_GOAL := help
modules := . example observe/otel observe/prometheus sms/sns test/contract test/db test/history test/load test/properties

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## run the tests
	go test work

test-short: ## run the tests that start no servers and wait for nothing
	go test -short work

race: ## run the tests under the race detector
	go test -race work

bin/golangci-lint: tools/go.mod
	cd tools && GOWORK=off go build -o ../bin/ tool

bin/vale: tools/vale/go.mod
	cd tools/vale && GOWORK=off go build -o ../../bin/ tool

lint: bin/golangci-lint bin/vale ## check code and prose
	for module in $(modules); do (cd $$module && $(CURDIR)/bin/golangci-lint run ./...) || exit 1; done
	git ls-files '*.go' '*.md' | xargs bin/vale --output=line

bench: ## run the benchmarks once
	go test -run '^$$' -bench . ./...

load: ## measure whole verifications a second on SQLite
	go run ./test/load

ci: ## run everything that a change must pass
	.ci/run

.PHONY: help test test-short race lint bench load ci
