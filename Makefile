# make demo: from a fresh checkout to a report. make test: everything that must hold.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check \
	--constraint constraints.txt --editable
PINS := pyproject.toml constraints.txt

.PHONY: help demo test bench benchmark-table setup docs pictures clean

# Where make benchmark-table finds its data, see benchmarks/table.py, and options for a smaller one.
DATA ?= ../shared/data
TABLE ?=

help:
	@echo "make demo    install into $(VENV), run the bundled example, say where its report is"
	@echo "make test    format, lint, types, import layers, tests with coverage"
	@echo "make bench   our training step against dense rivals; rows in bench.json"
	@echo "make setup   install for development"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make pictures  run the example again and take the README's pictures of its report"
	@echo "make benchmark-table DATA=DIR   run the benchmark of docs/benchmark.md (hours), write its table"
	@echo "make clean   remove everything made here, $(VENV) included"
	@echo "PYTHON=...   choose the Python (3.11 or newer) that $(VENV) is made with"

demo: $(VENV)/.run
	$(BIN)/scarce run pbmc68k_reduced --labels bulk_labels --out demo-run --force
	@echo "Open it in a browser: $(CURDIR)/demo-run/report.html"

test: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term

# Where PBMC3k lies; its name alone downloads it.
PBMC3K ?= pbmc3k

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.train_step --data $(PBMC3K) --json bench.json

setup: $(VENV)/.dev

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

# Needs Chromium on the path.
pictures: $(VENV)/.dev demo
	$(BIN)/python docs/pictures/take.py demo-run/report.html

benchmark-table: $(VENV)/.run
	$(BIN)/python -m benchmarks.table --data $(DATA) $(TABLE)

clean:
	rm -rf $(VENV) build demo-run bench.json dist docs/_build docs/generated
	rm -rf .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "scarce needs Python 3.11 or newer; '$(PYTHON)' is not." \
			"Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Stamps: nothing is installed again until what should be installed changes.
$(VENV)/.run: $(PINS) | $(BIN)/python
	@echo "Installing scarce into $(VENV); the first time this takes a few minutes."
	@$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(PINS) | $(BIN)/python
	@echo "Installing scarce and its development tools into $(VENV)."
	@$(INSTALL) '.[dev]'
	@touch $(VENV)/.run $@

$(VENV)/.bench: $(PINS) | $(BIN)/python
	@echo "Installing scarce and scvi-tools into $(VENV)."
	@$(INSTALL) '.[bench]'
	@touch $(VENV)/.run $@

$(VENV)/.docs: $(PINS) | $(BIN)/python
	@echo "Installing scarce and Sphinx into $(VENV)."
	@$(INSTALL) '.[docs]'
	@touch $(VENV)/.run $@
