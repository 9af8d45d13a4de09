# Every target sets up the virtual environment that it needs; Python 3.11 or newer is all that must be there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo ui test test-quick test-system test-browser campaign bench lint clean

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.installed ## Ingest, calculate and verify June 2025 from the packaged recordings, through Dagster.
	$(BIN)/recon demo

ui: $(VENV)/.installed ## Serve the Dagster UI of the demo on http://127.0.0.1:3000; `recon ui` serves your own data.
	$(BIN)/recon --demo ui

test: $(VENV)/.installed-dev ## Run all tests, on SQLite and on PostgreSQL.
	$(BIN)/pytest

test-quick: $(VENV)/.installed-dev ## Run the tests on SQLite without processes, servers, Dagster runs and random examples; a minute.
	$(BIN)/pytest -n 2 -m quick

# What a machine lacks for one of these two is an error, before anything else is done, and never a skipped test.
test-system: $(VENV)/.installed-dev ## Test with pgbouncer, across a network made of namespaces, and on full disks (as root).
	@$(BIN)/python -m recon_assets_tests.system
	$(BIN)/pytest -n 0 recon_assets_tests/system

test-browser: $(VENV)/.installed-dev ## Test the Dagster UI in the machine's Chromium.
	@$(BIN)/python -m recon_assets_tests.browser
	@$(MAKE) --no-print-directory $(VENV)/.installed-browser
	$(BIN)/pytest -n 0 recon_assets_tests/browser

campaign: $(VENV)/.installed-dev ## Nights without anybody on both engines; many random schedules of faults and kills (an hour).
	$(BIN)/pytest -n 2 -m campaign
	$(BIN)/pytest -n 2 --dist load --hypothesis-profile campaign recon_assets_tests/orchestration/test_fault_schedules.py

bench: $(VENV)/.installed-dev ## Measure everything on both engines and write benchmarks/RESULTS.md (about 20 minutes).
	$(BIN)/python -m benchmarks

lint: $(VENV)/.installed-dev ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove the virtual environment and build products; .recon/ (your data) stays.
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "recon needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	@touch $@
