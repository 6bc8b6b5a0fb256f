# The five things a maintainer does. `make` lists them; `make VENV=path ...` uses another environment.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help test lint docs bench release-check

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test,docs,release]'
	touch $@

test: $(INSTALLED) ## run the tests, in parallel
	$(BIN)/pytest -n 2 $(ARGS)

lint: $(INSTALLED) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED) ## regenerate the manual page, the reference and the picture; build the site
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/picture.py
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs build/site

bench: $(INSTALLED) ## measure start, jobs, locks and clients' statements
	$(BIN)/python -m benchmarks $(ARGS)

release-check: $(INSTALLED) ## build the distributions, check them, and try the wheel
	BIN=$(BIN) ./.ci/release-check
