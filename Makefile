# `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak params bench fresh check-python

VENV ?= .venv
# The first Python of 3.11 to 3.13 there is, unless PYTHON names one.
CANDIDATES := $(or $(PYTHON),python3 python python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FOUND = $(shell for p in $(CANDIDATES); do "$$p" -c '$(SUPPORTED)' 2>/dev/null && command -v "$$p" && break; done)
# Stages call `python`, which is to be the environment's.
IN_VENV = PATH="$(abspath $(VENV))/bin:$$PATH"

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(VENV)/installed ## the whole pipeline on embedded data, in the folder demo/
	@$(IN_VENV) python -m thaw demo

test: $(VENV)/installed-dev ## style and the quick tests
	@$(IN_VENV) ruff check --quiet .
	@$(IN_VENV) python -m pytest -m "not slow"

test-all: test ## the slow tests too
	@$(IN_VENV) python -m pytest -m slow -n 2 --dist loadfile

KILLS ?= 50
SEED ?= 0
soak: $(VENV)/installed-dev ## kill the demo at random moments and compare, KILLS=50 SEED=0
	@$(IN_VENV) python -m tests.soak --kills $(KILLS) --seed $(SEED)

params: $(VENV)/installed ## compose conf/ into params.yaml, the defaults of `dvc repro`
	@$(IN_VENV) python -m thaw params

bench: $(VENV)/installed ## thaw against fit() over pictures, on data/processed and the backbone of params.yaml
	@$(IN_VENV) python -m bench.schedule

fresh: $(VENV)/installed ## drop the saved state of stages that did not end
	@$(IN_VENV) python -m thaw fresh

check-python:
	@test -n "$(FOUND)" || { echo "thaw needs Python 3.11 to 3.13; found" \
	  $$(for p in $(CANDIDATES); do "$$p" --version 2>/dev/null || echo "no $$p"; done | sort -u | paste -sd, -) \
	  "- name one with PYTHON=/path/to/python" >&2; exit 1; }

$(VENV)/installed: requirements.txt | check-python
	@test -d $(VENV) || "$(FOUND)" -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV)"
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-jax.txt $(VENV)/installed | check-python
	@echo "installing requirements-dev.txt into $(VENV)"
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@
