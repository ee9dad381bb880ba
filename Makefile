# `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak soak-stages soak-sweeps params compare report bench docs fresh check-python

# The environment: VENV, or .venv; else the active one, or that of the checkout around demo/, if it has thaw.
BORROWED = $(if $(wildcard .venv/installed),,$(firstword \
  $(and $(VIRTUAL_ENV),$(wildcard $(VIRTUAL_ENV)/bin/thaw)) $(wildcard ../.venv/bin/thaw)))
VENV ?= $(or $(BORROWED:/bin/thaw=),.venv)
# Made here, and so brought up to date here; another is used as it is.
IS_BORROWED = $(filter $(VENV),$(BORROWED:/bin/thaw=))
INSTALLED = $(if $(IS_BORROWED),,$(VENV)/installed)
INSTALLED_DEV = $(if $(and $(IS_BORROWED),$(wildcard $(VENV)/bin/pytest)),,$(VENV)/installed-dev)
# The first Python of 3.11 to 3.13 on this machine, unless PYTHON names one.
CANDIDATES := $(or $(PYTHON),python3 python python3.13 python3.12 python3.11)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FOUND = $(shell for p in $(CANDIDATES); do "$$p" -c '$(SUPPORTED)' 2>/dev/null && command -v "$$p" && break; done)
PIP_INSTALL = $(VENV)/bin/python -m pip install -q --disable-pip-version-check
# Stages call `python`: the environment's comes first in PATH.
IN_VENV = PATH="$(abspath $(VENV))/bin:$$PATH"

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## the whole pipeline on embedded data, in the folder demo/
	@$(IN_VENV) python -m thaw demo

# One for each core, four at most: each takes 2 GB.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST = $(IN_VENV) python -m pytest -n $(WORKERS) --dist loadfile
test: $(INSTALLED_DEV) ## style, types and the quick tests
	@$(IN_VENV) ruff check --quiet .
	@$(IN_VENV) ruff format --quiet --diff .
	@$(IN_VENV) mypy --no-error-summary
	@$(PYTEST) -m "not slow"

# The folders that take longest first, so that all workers end at about the same time; pytest keeps this order only of
# paths of which none is in another.
LONG = tests/pipeline tests/bench tests/app
REST = $(filter-out $(LONG) %/helpers %/__pycache__,$(patsubst %/,%,$(wildcard tests/*/))) $(wildcard tests/test_*.py)
test-all: test ## the slow tests too
	@$(PYTEST) --no-loadscope-reorder --durations=40 -m slow $(LONG) $(REST)

KILLS ?= 50
SEED ?= 0
soak-stages: KILLS = 1000
soak: $(INSTALLED_DEV) ## kill the demo at random moments and compare, KILLS=50 SEED=0
	@$(IN_VENV) python -m tools.soak --kills $(KILLS) --seed $(SEED)

soak-stages: $(INSTALLED_DEV) ## kill stages, many of them in the middle of a write, KILLS=1000
	@$(IN_VENV) python -m tools.soak_stages --kills $(KILLS) --seed $(SEED)

soak-sweeps: $(INSTALLED_DEV) ## kill workers, hosts and heads of a cluster that runs a sweep, KILLS=50
	@$(IN_VENV) python -m tools.soak_sweeps --kills $(KILLS) --seed $(SEED)

params: $(INSTALLED) ## compose conf/ into params.yaml, the defaults of `dvc repro`
	@$(IN_VENV) python -m thaw params

compare: $(INSTALLED) ## a table of all experiments, and a chart of accuracy against training time
	@$(IN_VENV) python -m thaw compare

RUN ?=
report: $(INSTALLED) ## one HTML file about the workspace, or about RUN=experiment or commit
	@$(IN_VENV) python -m thaw report $(RUN)

ARGS ?=
bench: $(INSTALLED) ## time to accuracy of gradual and of plain fine-tuning, ARGS="--seeds 0 --only gradual"
	@$(IN_VENV) python -m bench.time_to_accuracy $(ARGS)

docs: $(INSTALLED_DEV) ## the documentation as a site, in the folder site/
	@$(IN_VENV) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict
	@echo "look at site/index.html"

fresh: $(INSTALLED) ## delete the saved state of interrupted stages
	@$(IN_VENV) python -m thaw fresh

check-python:
	@test -n "$(FOUND)" || { echo "thaw needs Python 3.11 to 3.13; found" \
	  $$(for p in $(CANDIDATES); do "$$p" --version 2>/dev/null || echo "no $$p"; done | sort -u | paste -sd, -) \
	  "- name one with PYTHON=/path/to/python" >&2; exit 1; }

$(VENV)/installed: requirements.txt | check-python
	@test -z "$(IS_BORROWED)" || { echo "$(VENV) has no pytest - make test in its checkout, or with VENV=.venv" >&2; exit 1; }
	@# Debian's Python makes an environment without pip where its package venv is missing.
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || "$(FOUND)" -m venv $(VENV)
	@echo "installing thaw into $(VENV)"
	@$(PIP_INSTALL) -c requirements.txt -e .
	@touch $@

$(VENV)/installed-dev: requirements/extras.txt $(VENV)/installed | check-python
	@echo "installing what the tests need into $(VENV)"
	@$(PIP_INSTALL) -c requirements.txt -c requirements/extras.txt -e ".[dev]"
	@touch $@
