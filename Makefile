# `make` installs into .venv; `make sweep` runs the main job on the embedded mini world; `make test` is what CI runs.

SHELL  := /bin/bash
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# The first of these that is Python 3.11 or newer makes .venv; `make PYTHON=...` says otherwise.
PYTHONS := python3.11 python3 python3.12 python3.13
PYTHON  ?=

# Tests ask no hub, and two cores are not shared by dozens of threads.
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
TESTS    := not slow and not network and not faults
QUICK    := not ray and not browser and not postgres and not gpu
# A file stays on one of two processes, for what its tests share.
TWO      := -n 2 --dist loadfile --no-loadscope-reorder
PURE     := raysched/unfreezing/select.py,raysched/unfreezing/config.py,raysched/unfreezing/schedule.py,raysched/search/cells.py,raysched/reports/stats.py,raysched/tasks/metrics.py

.DEFAULT_GOAL := install
.PHONY: install sweep test lint types imports cover unit slow faults audit bench golden format clean help

install: $(STAMP)  ## make .venv and install raysched with its pinned dependencies (the default)

# torch alone first: its pin then holds before anything that asks for "some torch" is looked at.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! test -x $(BIN)/python; then \
	  for name in $(or $(PYTHON),$(PYTHONS)); do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$name; break; fi; \
	  done; \
	  if test -z "$$found"; then \
	    echo "raysched needs Python 3.11 or newer, but found none of: $(or $(PYTHON),$(PYTHONS))" >&2; \
	    echo "  next:  install one, then make PYTHON=/path/to/python3.11" >&2; \
	    exit 3; \
	  fi; \
	  echo "making $(VENV) with $$found"; \
	  $$found -m venv $(VENV); \
	fi
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

sweep: install  ## run the mini world's sweep to its report; ARGS='--name mine' are passed on
	$(BIN)/raysched sweep xquad-mini $(ARGS)

test: lint types imports cover  ## everything CI runs: lint, types, import rules, tests with coverage

lint: install  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

imports: install  ## the layers of the package and its one door per framework
	$(BIN)/lint-imports

# `coverage run` follows subprocesses and Ray workers (tool.coverage.run in pyproject.toml).
cover: install  ## tests with coverage: at least 90 %, and all of the files that are pure Python
	$(BIN)/coverage erase
	$(TEST_ENV) $(BIN)/coverage run -m pytest $(TWO) -m '$(TESTS)' $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90
	$(BIN)/coverage report --include=$(PURE) --fail-under=100

unit: install  ## the quick tests: no Ray, no browser, no database server
	$(TEST_ENV) $(BIN)/python -m pytest $(TWO) -m '$(TESTS) and $(QUICK)' $(ARGS)

slow: install  ## the tests that take minutes, real data among them where there is some
	$(TEST_ENV) $(BIN)/python -m pytest -m 'slow and not network' --timeout 3600 --durations 20 $(ARGS)

faults: install  ## kills, outages and damage by the dozen, with a table of figures; ARGS='--kills 200' for a release
	$(TEST_ENV) $(BIN)/python -m pytest -m faults --timeout 3600 tests/faults tests $(ARGS)

audit: install  ## known vulnerabilities of the pinned versions (needs the network); .github/SECURITY.md explains the exceptions
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt --ignore-vuln CVE-2026-1839

bench: install  ## what unfreezing, measuring and a sick MLflow server cost; false positives and coverage of the statistics
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.training_cost
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.uploads
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.false_positives

golden: install  ## render deploy/kustomize into deploy/golden, which the tests compare (needs kubectl or kustomize)
	$(BIN)/python -m tests.deploy.golden

format: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what tools left behind; .venv and raysched-runs stay
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find raysched tests -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
