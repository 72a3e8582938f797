# `make demo` and `make test` need nothing but Python 3.10, 3.11 or 3.12 and make.
# Options: PYTHON=python3.12  VENV=path  PIP_FLAGS="…"  DATA=folder  RECIPE=name  MACHINE=name
# ARGS="…"

VENV ?= .venv
BIN := $(VENV)/bin
AST := $(BIN)/ast-audio
DATA ?= datasets/esc50
RECIPE ?= esc50
ESC10 ?= $(or $(AST_TEST_DATA),../shared/data)/esc10
DEMO := runs/demo
SUITABLE := import sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10 python; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_FLAGS)
PACKAGING := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test test-slow campaign faults lint format bench docs docs-serve esc50 clean help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.installed ## train on a synthetic data set, evaluate, predict; about two minutes
	$(AST) train demo --data $(DEMO)/data --out $(DEMO)/fold1 --fold 1
	$(AST) evaluate $(DEMO)/fold1 --data $(DEMO)/data
	$(AST) predict $(DEMO)/fold1 $$(ls $(DEMO)/data/audio/synthetic1-0-1-*.wav | head -n 1) --top-k 3
	@echo "plots  $(DEMO)/fold1/plots/learning_curves.png  $(DEMO)/fold1/plots/confusion.png"
	@echo "model  $(DEMO)/fold1/last"

test: $(VENV)/.installed-dev ## the test suite but what is marked slow
	$(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev ## what is marked slow
	$(BIN)/python -m pytest -m slow $(ARGS)

campaign: $(VENV)/.installed-dev ## 10,000 damaged and hostile inputs: tried, read, refused, failed
	$(BIN)/python -m tests.campaign --workers 2 --count 1430 $(ARGS)

faults: $(VENV)/.installed-dev ## commands whose disk fails or that are killed, at every operation (takes long)
	$(BIN)/python -m tests.faults $(ARGS)

lint: $(VENV)/.installed-dev ## linter and formatter check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev ## rewrite the code as the formatter wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## speed beside others', and the tables of docs/speed.md (takes long)
	@test -n "$(MACHINE)" || { echo "name the machine's folder: make bench MACHINE=amx" >&2; exit 2; }
	$(AST) bench --out tests/benchmarks/results/$(MACHINE) $(if $(wildcard $(ESC10)),--data $(ESC10)) $(ARGS)
	$(BIN)/python tests/benchmarks/speed_page.py

docs: $(VENV)/.installed-docs ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site  build/site/index.html"

docs-serve: $(VENV)/.installed-docs ## the documentation on http://127.0.0.1:8000, as you edit it
	$(BIN)/mkdocs serve

esc50: $(VENV)/.installed ## ESC-50: download, five folds, table (a GPU, the internet)
	$(AST) download esc50 $(DATA)
	$(AST) crossval $(RECIPE) --data $(DATA) $(ARGS)

clean: ## remove the environment, the built site and the demonstration's run
	rm -rf $(VENV) build $(DEMO)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.10, 3.11 or 3.12 with venv was found;" \
		"install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(PACKAGING)
	$(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python $(PACKAGING)
	$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/bin/python $(PACKAGING)
	$(PIP_INSTALL) -c constraints.txt -e '.[docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-newest: $(VENV)/bin/python $(PACKAGING) # the newest torch, for .ci/run
	$(PIP_INSTALL) -e '.[test]'
	@touch $(VENV)/.installed $@
