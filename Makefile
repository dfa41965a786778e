# Everything runs in .venv, which is made on first use. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Test files at a time. More than the cores are not faster, and each has container engines of its own.
# They must collect the same tests in the same order: sets are ordered by the same hashes.
WORKERS := 2

.PHONY: help quickstart test test-slow fuzz lint screenshots clean console dev system-packages

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: console ## a real checkpoint becomes a served model that answers
	@$(BIN)/tritondeck quickstart $(ARGS)

test: dev system-packages ## every test but the slow ones, WORKERS=2 files at a time
	@PYTHONHASHSEED=0 $(PYTEST) -m "not slow and not fuzz" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: dev system-packages ## the minutes-long tests
	@$(PYTEST) -m slow $(ARGS)

fuzz: dev ## long property runs
	@$(PYTEST) -m fuzz $(ARGS)

lint: dev ## style, types, floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

screenshots: dev system-packages ## docs/screenshots from the app itself
	@$(BIN)/python scripts/screenshots.py $(ARGS)

clean: ## remove .venv and caches (managed environments stay: `tritondeck env remove`)
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

console:
	@scripts/make-venv console

dev:
	@scripts/make-venv dev

system-packages:
	@scripts/system-packages
