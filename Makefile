# Two commands do everything: `make demo` runs the whole job on a made-up cohort, `make test` runs lint, types and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types pytest clean

help:
	@echo "make demo   set everything up and run the whole job on a made-up cohort (about 5 minutes)"
	@echo "make test   set everything up and run lint, types and tests"
	@echo "make clean  remove the environment and the demo"

install: $(INSTALLED)

# Installs once; again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt scripts/check_torch.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/check_torch.py before
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python scripts/check_torch.py remember
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python scripts/check_torch.py after
	touch $@

demo: $(INSTALLED)
	$(BIN)/equivox demo --out equivox-demo --overwrite

test: lint types pytest

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

# One thread a process: several processes of several threads each would wait for one another.
pytest: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_OPTIONS)

clean:
	rm -rf $(VENV) equivox-demo build dist .mypy_cache .ruff_cache .pytest_cache
