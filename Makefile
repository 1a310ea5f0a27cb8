# Needs Python 3.11 or newer, make, and a package index that pip can reach. Everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
CHECKED := featuredb tests .links/featuredb_ingest .links/featuredb_plugins .links/featuredb_queries .links/featuredb_migrations

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench bench-truth lint format clean

demo: $(STAMP)
	$(BIN)/featuredb demo

test: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CHECKED)

bench: $(STAMP)
	$(BIN)/python -m benchmarks

bench-truth: $(STAMP)
	$(BIN)/python -m benchmarks truth_labels truth_polysemantic truth_structure truth_context truth_manifold

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and alone: it is the largest by far, and what depends on it must not choose its version.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "featuredb needs Python 3.11 or newer; say which with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
