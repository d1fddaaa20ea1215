# make run    a fresh machine: sets up .venv and runs the laboratory in quick form on bundled data
# make test   the same set-up with the test tools, then the whole suite

PYTHON ?= python3
BIN := .venv/bin
RUNS ?= runs
THREADS := OMP_NUM_THREADS=1

.PHONY: setup setup-test run test test-all check bench clean

setup: .venv/.ready

setup-test: .venv/.ready-test

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/.ready-test: .venv/.ready requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-test.lock
	touch $@

.venv-bench/.ready: requirements.lock requirements-bench.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -r requirements.lock -r requirements-bench.lock
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

run: setup
	@status=0; for number in 1_1 1_2 1_3 2_2; do $(BIN)/fathomlab run $$number --quick --runs $(RUNS) || status=$$?; \
	  if [ $$status -gt 1 ]; then exit $$status; fi; done; $(BIN)/fathomlab report --runs $(RUNS) && exit $$status

# Shapes in signatures are checked while testing; compiled code, which the checker cannot enter, is tested by itself.
SHAPES := fathomlab.engine,fathomlab.models,fathomlab.losses,fathomlab.probes,beartype.beartype

test: setup-test
	$(THREADS) $(BIN)/python -m pytest tests/compiled
	$(THREADS) $(BIN)/python -m pytest --ignore=tests/compiled --jaxtyping-packages=$(SHAPES)

test-all: setup-test
	$(THREADS) $(BIN)/python -m pytest tests/compiled -m ""
	$(THREADS) $(BIN)/python -m pytest --ignore=tests/compiled --jaxtyping-packages=$(SHAPES) -m ""

check: setup-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: setup .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks

clean:
	rm -rf .venv .venv-bench build .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
