# Everything runs from a fresh clone; scripts/with-zookeeper.sh says where a ZooKeeper comes from.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=
PYTEST_WORKERS ?= 0
bin := .venv/bin
with_zookeeper := scripts/with-zookeeper.sh --beside '$(MAKE) --no-print-directory venv'

.PHONY: help demo test soak check venv clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: ## see it work against a real ZooKeeper (ARGS=...)
	@$(with_zookeeper) $(bin)/coordinator demo $(ARGS)

test: ## all tests against a real ZooKeeper (ARGS='-k expiry'; PYTEST_WORKERS=4)
	@$(with_zookeeper) --all $(bin)/python -m pytest -n $(PYTEST_WORKERS) $(ARGS)

soak: ## five minutes of faults on locks, and each double ownership ten times (ARGS=...)
	@COORDINATOR_STORM=300 COORDINATOR_DOUBLE_OWNERSHIP=10 $(with_zookeeper) --all \
	    $(bin)/python -m pytest -rP tests/faults/test_never_two.py tests/faults/test_double_ownership.py $(ARGS)

check: venv ## lint, format, types, import layers
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/mypy tests/typing
	$(bin)/lint-imports

venv: .venv/.stamp ## the virtual environment, brought up to date with pyproject.toml

.venv/.stamp: pyproject.toml
	@set -e; \
	if ! $(bin)/python -m pip --version >/dev/null 2>&1; then \
	    for candidate in $$PYTHON python3 python3.14 python3.13 python3.12 python3.11; do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	    done; \
	    [ -n "$$found" ] || { echo "make venv: no Python >= 3.11 (tried python3, python3.14 ... python3.11; set PYTHON)" >&2; exit 1; }; \
	    $$found -c 'import ensurepip, venv' 2>/dev/null || \
	        { echo "make venv: $$found cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	    rm -rf .venv; $$found -m venv .venv; \
	fi; \
	$(bin)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'; \
	touch $@

clean: ## remove the virtual environment, caches and the engine that the scripts started
	@scripts/engine.sh stop
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
