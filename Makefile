# Every target makes what it needs by itself: a virtual environment in .venv with pinned versions, for the CPU.
# `make demo` and `make test` work on a fresh machine that has make and Python 3.11 or newer.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CPU := JAX_PLATFORMS=cpu
DEMO := runs/demo
WORKERS ?= 2  # test processes

.PHONY: help demo test test-fast lint format goldens clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

# The first interpreter that runs, is new enough and can make virtual environments; `make PYTHON=... demo` overrides.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python3.13 python3.14 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
	    echo "error: no Python 3.11 or newer with the venv module was found;" \
	         "install one (Debian: python3 and python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; fi
	@$(PY) -c "" 2>/dev/null || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "installing pinned packages into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

test: lint  ## lint and the whole test suite with shape checks
	$(CPU) $(PY) -m pytest -n $(WORKERS) --dist loadfile

test-fast: $(STAMP)  ## the tests that take less than ten seconds each
	$(CPU) $(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

lint: $(STAMP)  ## ruff, and which package may import which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --diff --quiet .
	$(VENV)/bin/lint-imports

clean:  ## remove the environment and caches, never runs/ or data/
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
