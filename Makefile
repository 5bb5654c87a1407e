# One command per task; `make help` lists them. Everything is installed into .venv and nowhere else.

SHELL := /bin/sh
.DEFAULT_GOAL := install
.DELETE_ON_ERROR:

# The first Python on the path that is new enough; override it with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
TESTS ?= tests
TEST_PROCESSES ?= 2

DEV := $(VENV)/.installed-dev
SANDBOX := $(VENV)/.installed-sandbox
# The demo needs fewer packages than development; an existing development install is reused.
DEMO_NEEDS := $(if $(wildcard $(DEV)),$(DEV),$(SANDBOX))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(DEV) ## Install everything for development into .venv (the default)

.PHONY: demo
demo: $(DEMO_NEEDS) ## Run everything on this machine: embedded broker, OMS sandbox and the service
	$(BIN)/inventory-refresh demo

.PHONY: test
test: $(DEV) ## Run all tests, or TESTS=path; starts a real Kafka and schema registry if Maven can download them
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(TESTS)

.PHONY: tools
tools: $(DEV) ## Build helm, a Kubernetes API server and other tools of tests/deploy from source: takes minutes, once
	$(BIN)/python -m tests.support.go_tools

CRDS := external-secrets.io_externalsecrets keda.sh_scaledobjects monitoring.coreos.com_podmonitors \
	monitoring.coreos.com_prometheusrules monitoring.coreos.com_servicemonitors

.PHONY: crds
crds: ## Regenerate tests/deploy/crds/*.yaml from the operators' Go types (needs Go)
	cd tests/deploy/crds/source && go tool controller-gen crd:maxDescLen=0 output:crd:dir=../../../../.build/crds \
		$$(sed -n 's/^\t_ "\(.*\)"/paths=\1/p' types.go)
	cp $(CRDS:%=.build/crds/%.yaml) tests/deploy/crds/

.PHONY: lint
lint: $(DEV) ## Check style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(DEV) ## Format all code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

CASES ?=
ROUNDS ?= 3
RESULTS ?= .build/bench.json

.PHONY: bench
bench: $(DEV) ## Measure the service between bare loops on a real Kafka: CASES="distinct many" ROUNDS=n (3)
	$(BIN)/python -m bench $(CASES) --rounds $(ROUNDS) --results $(RESULTS)

.PHONY: bench-quick
bench-quick: $(DEV) ## Run every case of the bench in miniature, and check that everything is delivered; no times
	$(BIN)/python -m bench --quick --rounds 1

.PHONY: performance
performance: $(DEV) ## Measure all cases, also those by hand, for docs/performance.md: takes an hour with ROUNDS=3
	$(BIN)/python -m bench --all --rounds $(ROUNDS) --results bench/results.json
	$(BIN)/python docs/generate.py

SEEDS ?= 500

.PHONY: simulate
simulate: $(DEV) ## Run SEEDS=n seeds (500) of the real loop and engine in a simulated world, or only SEED=k
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

.PHONY: mutants
mutants: $(DEV) ## Break rules of docs/protocol.md one at a time, and count the seeds until the simulation detects it
	$(BIN)/python -m tests.simulation --mutants --seeds 200

.PHONY: chart
chart: $(DEV) ## Render the Helm chart with each of its values files, list the objects and validate them
	$(BIN)/python -m tests.support.chart

SECONDS ?= 60

.PHONY: fuzz
fuzz: $(DEV) ## Feed hostile messages and schemas to the decoder for SECONDS=n (60), or replay SEED=k COUNT=1
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

.PHONY: docs
docs: $(DEV) ## Regenerate from the code: configuration, metrics, sandbox, the diagrams of protocol.md, the chart's tables
	$(BIN)/python docs/generate.py
	$(BIN)/python helm/generate.py

.PHONY: dashboards
dashboards: $(DEV) ## Regenerate the chart's Grafana dashboards from helm/dashboards_source
	$(BIN)/python -m helm.dashboards_source

.PHONY: picture
picture: $(DEV) ## Draw the pictures in docs/; needs Debian's prometheus, chromium, fonts-inter, fonts-dejavu
	$(BIN)/python -m docs.picture

.PHONY: lock
lock: $(DEV) ## Lock dependency versions within the bounds of pyproject.toml (UPGRADE=--upgrade for newer ones)
	$(PIP) install 'uv>=0.9,<1'
	$(LOCK) pyproject.toml requirements/build.in --extra sandbox --extra dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml requirements/build.in --extra sandbox --constraint requirements/dev.txt \
		--output-file requirements/sandbox.txt
	$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --extra msk --constraint requirements/dev.txt --output-file requirements/msk.txt
	$(LOCK) requirements/tools.in --no-annotate --output-file requirements/tools.txt
	$(LOCK) requirements/go.in --no-annotate --output-file requirements/go.txt

LOCK := $(BIN)/uv pip compile --quiet --universal --no-emit-index-url --generate-hashes --no-header $(UPGRADE)

TOOLS := .build/tools

.PHONY: audit
audit: $(TOOLS)/.installed ## Check all locked dependencies for known vulnerabilities; needs internet access
	.ci/audit

.PHONY: sbom
sbom: $(TOOLS)/.installed ## Write .build/sbom.cdx.json (CycloneDX) and .build/licences.txt for what the service installs
	.ci/sbom

$(TOOLS)/.installed: requirements/tools.txt $(VENV)/pyvenv.cfg
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check --quiet --no-input install \
		--require-hashes --only-binary :all: --requirement requirements/tools.txt
	@touch $@

.PHONY: clean
clean: ## Remove .venv and all build output
	rm -rf $(VENV) .build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { \
		echo 'Python 3.11 or newer is required and none was found on the path: install it, or run make PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Python 3.11 or newer is required, and $(PYTHON) is older: run make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) has no venv module: install it (on Debian and Ubuntu: apt-get install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEV): requirements/dev.txt pyproject.toml $(VENV)/pyvenv.cfg
	$(PIP) install --require-hashes --only-binary :all: --requirement requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(SANDBOX): requirements/sandbox.txt pyproject.toml $(VENV)/pyvenv.cfg
	$(PIP) install --require-hashes --only-binary :all: --requirement requirements/sandbox.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
