# Everything a person types. Needs make, and Python 3.11 or newer with venv; uv makes it faster where it is on PATH.
#
# requirements.lock pins everything, tests included; requirements-run.lock is the part of it that running needs, so that
# `make demo` and the container image don't fetch a browser driver and a type checker. `make lock` writes both.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
comma := ,
UV := $(shell command -v uv 2>/dev/null)
BIN := $(VENV)/bin
ALL := $(VENV)/.installed-all
# Where everything is installed already, running needs nothing more.
RUN := $(if $(wildcard $(ALL)),$(ALL),$(VENV)/.installed-run)

# The tests start hundreds of processes: each would compile all of our sources, and pytest all tests, anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo up showroom test setup lint fmt types pytest faults mutants blame bench docs lock clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(RUN) ## Shows the product in half a minute: streams, resumes, and pays once
	@$(BIN)/onceq demo

up: $(RUN) ## Starts all of it on this machine and stays; Ctrl-C stops it
	@$(BIN)/onceq up

showroom: $(RUN) ## Opens the dashboard on a month of made-up traffic; SHOWROOM="--jobs 100000" for more
	@$(BIN)/onceq showroom $(SHOWROOM)

setup: $(ALL) ## Installs everything into .venv, tests included

# The demo waits most of its time, so types are checked beside it.
test: $(ALL) ## Runs all that CI runs
	@$(MAKE) --no-print-directory -j 2 --output-sync=target lint types demo
	@$(MAKE) --no-print-directory pytest

lint: $(ALL) ## Checks style, format and the floors between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(ALL) ## Checks types
	$(BIN)/basedpyright

# Most tests wait for processes, so three wait at once: two left half of two cores idle, four were no faster. What judges recovery times or loads the machine runs alone.
# The requests that are made of the OpenAPI document are made while tests are collected, by each process anew: four seconds.
pytest: $(ALL) ## Runs the tests; the demo comes before them in `make test`
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not faults and not alone" --ignore tests/contract/test_openapi.py
	$(BIN)/python -m pytest -m "faults or alone"

faults: $(ALL) ## Runs the whole fault matrix, ten minutes, and prints its figures
	$(BIN)/python -m pytest tests/faults -m "faults or faults_full"

mutants: $(ALL) ## Seeds defects into a copy of the sources, one after the other; the tests must find each
	$(BIN)/python -m tests.faults.mutate $(MUTANTS)

blame: $(ALL) ## Mixes faults over a running deployment, and prints who was blamed for what
	ONCEQ_BLAME_JOBS=14 $(BIN)/python -m pytest tests/rows/test_blame.py

bench: $(ALL) ## Measures speed, ten minutes on a quiet machine; BENCH="posts --quick" for a part of it
	$(BIN)/python -m benchmarks $(BENCH)

docs: $(ALL) ## Builds the SDK's API reference from its docstrings; open build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fmt: $(ALL) ## Formats, and mends what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The build backend is pinned too, because it runs on this machine when the package is installed.
LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

lock: ## Pins anew: the newest versions that pyproject.toml allows (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: see docs.astral.sh/uv"; exit 1; }
	echo "hatchling>=1.27" | $(LOCK) --upgrade --all-extras pyproject.toml - --output-file requirements.lock
	echo "hatchling>=1.27" | $(LOCK) --upgrade --extra service --extra dashboard --extra oidc --extra notebook --extra otel \
		--constraint requirements.lock --no-annotate pyproject.toml - --output-file requirements-run.lock

$(ALL): requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(VENV)/.installed-run: requirements-run.lock pyproject.toml
	$(call install,requirements-run.lock)

# Stock pip and uv do the same here: what is pinned, checked by its hash, then this folder as it is.
define install
	@test -n "$(UV)$(PYTHON)" || { echo "onceq needs Python 3.11 or newer: install it, or name it with make PYTHON=..."; exit 1; }
	@echo "Installing $(1) into $(VENV): $(if $(UV),some seconds,a minute or two with pip$(comma) seconds where uv is on PATH) ..."
	@if [ -n "$(UV)" ]; then \
		{ test -x $(BIN)/python || uv venv --quiet $(if $(PYTHON),--python $(PYTHON),--python 3.11) $(VENV); } && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		{ test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
			echo "$(PYTHON) can't make a venv: install python3-venv (Debian, Ubuntu), or uv"; exit 1; }; } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@
endef

clean: ## Removes what was installed; data in .onceq/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
