# Entry points of this project. Debian with Python 3.11 and make is enough; each target installs what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
PYTEST_ARGS ?=
# Tests mostly wait, so three workers keep two cores busy. 0 runs them sequentially.
TEST_WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

.PHONY: help demo test test-fast check bench faults fuzz mutants format proto docs upgrade sbom clean env env-dev browser node-agent \
        check-format check-lint check-types check-layers check-proto check-docs check-commits

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: env ## Run Valkey, a server, an agent and one command; ONCE=1 exits afterwards
	@exec $(BIN)/distributor demo $(if $(ONCE),--once)

test: env-dev browser node-agent ## Run all tests in parallel; PYTEST_ARGS=... selects some
	@$(PYTEST) $(PYTEST_ARGS)

test-fast: env-dev ## Run unit and property tests, in under 30 s
	@$(PYTEST) tests/properties tests/unit $(PYTEST_ARGS)

check: check-format check-lint check-types check-layers check-proto check-docs check-commits ## Run every check except the tests
	@echo "check: all passed"

bench: env ## Measure throughput, latency and memory, and compare with peers
	@$(if $(or $(findstring peers,$(BENCH_ARGS)),$(if $(findstring --only,$(BENCH_ARGS)),,all)),scripts/setup_peers.sh)
	@$(BIN)/python -m bench $(BENCH_ARGS)

faults: env-dev ## Inject faults into real processes and check every promise; SEED=... repeats, ONLY=... selects
	@$(BIN)/python -m tests.faults.campaign $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

fuzz: env-dev ## Send every way in what it does not expect; SEED=... repeats, SECONDS=... (60), ONLY=... selects
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only "$(ONLY)")

mutants: env-dev ## Break the source on purpose, and expect a named test to fail each time; ONLY=... selects
	@$(BIN)/python -m tests.mutants $(if $(ONLY),--only "$(ONLY)")

format: env-dev ## Format Python and proto files
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/buf format --write

proto: env-dev ## Generate distributor/v1 from proto/
	@scripts/generate_proto.sh

docs: env-dev ## Generate the tables in docs/
	@$(BIN)/python -m scripts.generated_docs

upgrade: env-dev ## Update constraints.txt and requirements.txt to the latest permitted versions
	@scripts/upgrade.sh

sbom: env-dev ## Write build/sbom.cdx.json, the parts of an installation in CycloneDX
	@scripts/sbom.sh

clean: ## Remove .venv and all generated files that are not committed
	rm -rf .venv build dist *.egg-info bench/results distributor/page/vendor
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

env:
	@scripts/setup.sh run

env-dev:
	@scripts/setup.sh dev

browser: ## Install Chromium for the browser tests
	@scripts/setup_browser.sh

node-agent: ## Install the packages of the agent in Node for the conformance tests
	@scripts/setup_node_agent.sh

check-format: env-dev
	@echo "check: format"
	@$(BIN)/ruff format --check .
	@$(BIN)/buf format --diff --exit-code

check-lint: env-dev
	@echo "check: lint"
	@$(BIN)/ruff check .
	@$(BIN)/buf lint

check-types: env-dev
	@echo "check: types"
	@$(BIN)/mypy

check-layers: env-dev
	@echo "check: layers"
	@$(BIN)/lint-imports --no-logo

check-proto: env-dev
	@echo "check: proto"
	@scripts/generate_proto.sh --check
	@scripts/check_breaking.sh

check-docs: env-dev
	@echo "check: docs"
	@$(BIN)/python -m scripts.generated_docs --check
	@$(BIN)/python -m scripts.long_lines

check-commits: env-dev
	@echo "check: commits"
	@$(BIN)/python -m scripts.commit_messages
