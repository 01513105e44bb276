# The commands of this project. `make demo` and `make test` do all their own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
WEB := web_client
WEB_SOURCES := $(shell find $(WEB)/src -type f -not -name '*.test.*' 2>/dev/null) $(wildcard $(WEB)/*.html $(WEB)/*.ts $(WEB)/package-lock.json)
NATIVE := $(wildcard media/native/*.[ch] load_tests/native/*.[ch]) media/native/build_fanout.py load_tests/native/build_generator.py
say = @printf '\033[1m== %s\033[0m\n'

.PHONY: help demo test check check-python check-web unit unit-python unit-web integration browser long bench soak fuzz sanitize fmt lock clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/runtime $(WEB)/dist/index.html ## set everything up and run a sample hub on this machine
	@exec $(BIN)/consilium demo

# while packages come over the network, what needs none of them any more runs
test: ## every check, as CI runs it
	@$(MAKE) -j3 --output-sync=line check-python unit-web tests/.debian
	@$(MAKE) unit-python integration browser
	$(say) "all checks passed"

check: ## format, lint, types, import contracts, wire drift
	@$(MAKE) -j2 --output-sync=target check-python check-web

check-python: .venv/dev
	$(say) "format and lint (Python)"
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(say) "types (Python)"
	@$(BIN)/mypy
	$(say) "import contracts"
	@$(BIN)/lint-imports
	$(say) "wire types: Python classes against the generated TypeScript"
	@$(BIN)/python -m signaling.typescript --check

check-web: $(WEB)/node_modules/.ready
	$(say) "format, lint and types (TypeScript)"
	@(cd $(WEB) && npx --no-install biome ci --error-on-warnings . && npx --no-install tsc --noEmit)

unit: unit-web unit-python ## fast tests: cores, laws, client logic

unit-web: check-web $(WEB)/dist/index.html
	$(say) "client logic"
	@(cd $(WEB) && npx --no-install vitest run --reporter=dot)

unit-python: .venv/dev
	$(say) "unit and property tests"
	@$(BIN)/pytest -q -n 2 tests/unit tests/property tests/fuzz

# a whole file to a process: some files are one story on one server
integration: .venv/dev tests/.debian ## contracts on real Redis and PostgreSQL, real peers
	$(say) "contract and integration tests"
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not long" tests/contract tests/integration

browser: .venv/dev tests/.debian $(WEB)/dist/index.html ## what people see, in real Chromium
	$(say) "browser tests"
	@$(BIN)/pytest -q -m "not long" tests/browser

long: .venv/dev tests/.debian $(WEB)/dist/index.html ## tests too long for every change: browsers, generators on other machines
	@$(BIN)/pytest -q -m long tests/browser tests/integration

bench: .venv/dev tests/.debian tests/.debian-bench $(WEB)/dist/index.html ## figures, one JSON object a line
	@$(BIN)/python -m load_tests.bench

soak: .venv/dev tests/.debian $(WEB)/dist/index.html ## an hour of sessions that come and go, an hour of live ECG; watches memory
	@$(BIN)/python -m load_tests.bench.soak
	$(BIN)/python -m load_tests.bench.ecg.soak

fuzz: .venv/dev ## minutes of hostile bytes for every parser; CONSILIUM_FUZZ_SECONDS each, ones that break go to tests/fuzz/corpus
	@$(BIN)/python -m tests.fuzz
	CONSILIUM_FUZZ=1 $(BIN)/pytest -q -n 2 tests/property

sanitize: .venv/dev ## the C functions' laws under gcc's address and undefined behaviour sanitizers, in a copy
	@tests/sanitize.sh "$(CURDIR)/$(BIN)/python"

fmt: .venv/dev $(WEB)/node_modules/.ready ## format everything
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && (cd $(WEB) && npx --no-install biome check --write .)

lock: .venv/dev ## resolve dependencies again; lock files carry hashes, no addresses
	@$(BIN)/pip install -q uv
	COMPILE="$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command='make lock' -q"
	eval $$COMPILE pyproject.toml requirements/build.in -o requirements/runtime.lock
	eval $$COMPILE pyproject.toml requirements/build.in requirements/dev.in -o requirements/dev.lock
	(cd $(WEB) && npm install --package-lock-only)

clean: ## remove what was built or installed here; the data folder stays
	rm -rf .venv build media/native/*.so load_tests/native/*.so $(WEB)/node_modules $(WEB)/dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/.debian tests/.debian-bench

# ---------------------------------------------------------------- set-up

.venv/bin/python:
	$(say) "Python environment in .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version)." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { echo "On Debian: apt-get install python3-venv" >&2; exit 1; }

.venv/runtime: requirements/runtime.lock pyproject.toml setup.py $(NATIVE) | .venv/bin/python
	$(say) "Python packages (hash-checked)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# what is imported compiles itself then; the rest is more than half of the work of installing
.venv/dev: requirements/dev.lock pyproject.toml setup.py $(NATIVE) | .venv/bin/python
	$(say) "Python packages for tests (hash-checked)"
	@$(BIN)/pip install -q --no-compile --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv/runtime $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json
	$(say) "web client packages (npm ci)"
	@node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' || { echo "Node 20.19 or newer is needed." >&2; exit 1; }
	(cd $(WEB) && npm ci --no-fund --no-audit --loglevel=error)
	touch $@

$(WEB)/dist/index.html: $(WEB_SOURCES) $(WEB)/node_modules/.ready
	$(say) "web client build"
	@(cd $(WEB) && npx --no-install vite build --logLevel warn)
	touch $@

tests/.debian: tests/debian-packages.sh
	@bash tests/debian-packages.sh
	touch $@

tests/.debian-bench: tests/debian-packages.sh
	@bash tests/debian-packages.sh bench
	touch $@
