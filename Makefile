PYTHON ?= python3
BIN := .venv/bin
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: setup demo test test-all lint tables docs benchmarks clean

# the environment that the tests need
setup: .venv/test

demo: .venv/core
	$(BIN)/bayesdl demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# everything, the checks marked slow too, compiled as users' programs are
test-all: lint
	XLA_FLAGS=--xla_force_host_platform_device_count=2 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow"

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# the table of engines and models, and the page of benchmarks
tables: .venv/test
	$(BIN)/python -m bayesdl.cli.support_table docs/reference/engines.md
	$(BIN)/python -m benchmarks.page

# the site, in build/site; EXECUTE=off leaves the tutorials as they are written
EXECUTE ?= cache
docs: .venv/docs
	EXECUTE=$(EXECUTE) $(BIN)/python -m sphinx -W --keep-going -q docs build/site
	@echo "open build/site/index.html"

benchmarks: .venv/test
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.program_overhead
	$(BIN)/python -m benchmarks.enumeration
	$(BIN)/python -m benchmarks.new_groups
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.uci
	$(BIN)/python -m benchmarks.exact_gp
	$(BIN)/python -m benchmarks.sparse_gp
	$(BIN)/python -m benchmarks.sgmcmc
	$(BIN)/python -m benchmarks.vi
	$(BIN)/python -m benchmarks.functional_priors
	$(BIN)/python -m benchmarks.pfn
	$(BIN)/python -m benchmarks.pfn_nuts
	$(BIN)/python -m benchmarks.tabular
	$(BIN)/python -m benchmarks.sparse
	$(BIN)/python -m benchmarks.funbat
	$(BIN)/python -m benchmarks.recommend

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'bayesdl needs Python 3.11 or later: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/test: .venv/core
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,torch,parquet]"
	touch $@

.venv/docs: .venv/core
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf .venv .jax_cache demo build dist
