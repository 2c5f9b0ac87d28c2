# Every target first creates a virtual environment in .venv with pinned versions for the CPU, if it is missing.
# `make demo` and `make test` work on a fresh machine that has make and Python 3.11 or newer.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TRACKERS := $(VENV)/.trackers
TORCH := $(VENV)/.torch
COMPILERS := .venv-accelerators
CPU := JAX_PLATFORMS=cpu GLIBC_TUNABLES=glibc.malloc.hugetlb=1
DEMO := runs/demo
DEMO_CONFIG := configs/challenge_demo.py
# The evaluation and the prediction find the program that the training has compiled.
DEMO_ENV := $(CPU) JAX_COMPILATION_CACHE_DIR=$(DEMO)/compiled
# What the export writes last: where it is missing, an export was interrupted.
HELD_OUT_LAST := $(DEMO)/held_out/annotations/instances.json
WORKERS ?= 2  # test processes

.PHONY: help demo test test-fast fuzz torture test-parity parity-table bench accelerators docs test-wheel lint clean
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

demo: $(STAMP)  ## train, evaluate and predict on generated images, on the CPU, in minutes; resumes after an interruption
	@echo "1/3 training on generated images; imports take a few seconds"
	$(DEMO_ENV) $(PY) train.py --config $(DEMO_CONFIG) --workdir $(DEMO)
	@echo; echo "2/3 evaluating the best checkpoint; imports take a few seconds"
	$(DEMO_ENV) $(PY) eval.py --config $(DEMO_CONFIG) --workdir $(DEMO)
	@echo; echo "3/3 drawing 12 held-out images and predicting on them; imports take a few seconds"
	@test -f $(HELD_OUT_LAST) || { rm -rf $(DEMO)/held_out && $(CPU) $(PY) -c "$$HELD_OUT" $(DEMO)/held_out; }
	@rm -rf $(DEMO)/predictions
	$(DEMO_ENV) $(PY) predict.py --workdir $(DEMO) --input $(DEMO)/held_out/images --output $(DEMO)/predictions --batch_size 8
	@echo; echo "Open this first, scores, curves and images of the evaluation:  $(DEMO)/report.html"
	@echo "Then the boxes and attention masks of held-out images:         $(DEMO)/predictions/"

# The first images of the recipe's evaluation set, as files that anybody could have.
define HELD_OUT
import sys
from configs.challenge_demo import get_config
from lga_jax.data.challenge.source import Challenge, export
arguments = get_config().data.eval.to_dict() | {"num_images": 12}
arguments.pop("source")
export(Challenge(**arguments), sys.argv[1])
endef
export HELD_OUT

# tests/parity needs PyTorch, several gigabytes, and minutes: it has targets of its own.
test: lint $(TRACKERS)  ## lint and the whole test suite with shape checks, but for the comparison with torchvision
	$(CPU) $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/parity

test-fast: $(TRACKERS)  ## the tests that take less than ten seconds each
	$(CPU) $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/parity -m "not slow"

fuzz: $(STAMP)  ## 5,000 damaged annotation files of either of two kinds, two minutes
	$(CPU) $(PY) -m pytest tests/data/coco -k "mutated_file or bytes_changed" --hypothesis-profile=fuzz

torture: $(STAMP)  ## kill runs, damage their files, fill their disk; an hour and a half on two cores; goes on where it stopped
	$(PY) -m tests.torture --page docs/reliability.md

# Beside the comparison, all tests that read or write files of PyTorch, torchvision and timm: `make test` skips them.
test-parity: $(TORCH)  ## install PyTorch, torchvision and timm, compare with them and read their files
	$(CPU) $(PY) -m pytest tests/parity tests/weights tests/checkpoints

parity-table: $(TORCH)  ## the same, and write the table of docs/parity.md
	$(CPU) $(PY) -m pytest tests/parity --parity-table=docs/parity.md

bench: $(TORCH)  ## measure the speed of everything and write benchmarks/speed, three quarters of an hour on two cores
	$(CPU) $(PY) -m benchmarks.bench --output benchmarks/speed

# The compilers have an environment of their own: in $(VENV) JAX would look for their devices in every command.
accelerators: $(COMPILERS)/.installed  ## compile the training step for a GPU and a TPU and count, without such a device, 20 minutes
	$(CPU) $(COMPILERS)/bin/python -m benchmarks.accelerators
	$(CPU) $(COMPILERS)/bin/python -m pytest tests/benchmarks/test_accelerators.py

$(COMPILERS)/.installed: $(STAMP)
	@echo "installing compilers for GPUs and TPUs, 1.3 GB, into $(COMPILERS)"
	@$(PY) -m venv --clear $(COMPILERS)
	@$(COMPILERS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,compilers]'
	@touch $@

$(TRACKERS): $(STAMP)  # `make demo` does without them
	@echo "installing TensorBoard, W&B and MLflow into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,tensorboard,wandb,mlflow]'
	@touch $@

$(TORCH): $(STAMP)
	@echo "installing PyTorch, torchvision and timm into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench,parity,efficientnet]'
	@touch $@

docs: $(VENV)/.docs  ## build the pages and the API reference into docs/_site; a broken link is an error
	$(CPU) $(PY) -m sphinx --quiet --fail-on-warning --keep-going -b html -c docs . docs/_site
	@echo "written: docs/_site/docs/index.html"

$(VENV)/.docs: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

test-wheel: $(STAMP)  ## build the wheel, install it into an empty environment and train two steps there, from another folder
	@rm -rf build/wheel && mkdir -p build/wheel/elsewhere
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@$(PY) -m venv build/wheel/venv
	@build/wheel/venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt build/wheel/*.whl
	cd build/wheel/elsewhere && ../venv/bin/lga_jax recipes coco --output mine.py && ../venv/bin/lga_jax recipes
	cd build/wheel/elsewhere && $(CPU) ../venv/bin/lga_jax train --config challenge --workdir run --config.num_steps=2 \
	    --config.batch_size=2 --config.data.train.num_images=8 --config.data.eval.num_images=4

lint: $(STAMP)  ## ruff, and which package may import which
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports

clean:  ## remove the environment and caches, never runs/ or data/
	rm -rf $(VENV) $(COMPILERS) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
