# make run    a fresh machine: creates .venv and runs the bundled experiments in quick form on bundled data
# make test   the same setup with the test tools, then the default test suite
#
# TORCH=cpu   installs the CPU build of PyTorch if the configured package index has it (1.3 GB instead of about 6 GB on Linux)

PYTHON ?= python3
TORCH ?= default
BIN := .venv/bin
RUNS ?= runs
THREADS := OMP_NUM_THREADS=1
# Modules are compiled when they are imported, which most of them never are.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
LOCKED := $$(grep '^torch==' requirements.lock)

.PHONY: setup setup-test setup-extras run test test-all check release-check reference docs bench clean

setup: .venv/.ready

setup-test: .venv/.ready-test

setup-extras: .venv/.ready-extras

.venv/.ready: requirements.lock pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	@case "$(TORCH)" in \
	  default) $(BIN)/python $(PIP) $(LOCKED) ;; \
	  cpu) $(BIN)/python $(PIP) $(LOCKED)+cpu 2>/dev/null || \
	    { echo "The package index has no CPU build of PyTorch; installing the default build."; $(BIN)/python $(PIP) $(LOCKED); } ;; \
	  *) echo "TORCH must be default or cpu, got $(TORCH)"; exit 2 ;; esac
	$(BIN)/python $(PIP) --requirement requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	touch $@

.venv/.ready-test: .venv/.ready requirements-test.lock
	$(BIN)/python $(PIP) --requirement requirements-test.lock
	touch $@

.venv/.ready-extras: .venv/.ready-test requirements-extras.lock
	$(BIN)/python $(PIP) --requirement requirements-extras.lock
	touch $@

.venv-bench/.ready: requirements.lock requirements-bench.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(PIP) $(LOCKED)
	.venv-bench/bin/python $(PIP) --requirement requirements.lock --requirement requirements-bench.lock
	.venv-bench/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	touch $@

.venv-docs/.ready: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(PIP) --requirement requirements-docs.lock
	touch $@

.venv-release/.ready: requirements-release.lock
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python $(PIP) --requirement requirements-release.lock
	touch $@

run: setup
	@status=0; for number in 1_1 1_2 1_3 2_2; do $(BIN)/fathomlab run $$number --quick --runs $(RUNS) || status=$$?; \
	  if [ $$status -gt 1 ]; then exit $$status; fi; done; echo "index: file://$(abspath $(RUNS))/index.html"; exit $$status

# Shapes in signatures are checked in the tests of what computes with tensors. They run by themselves, because the checks
# slow down every other test, too. They cannot enter compiled code, and draw from Python's random numbers, which a user's module
# may draw from. Each worker of pytest-xdist uses one thread.
PYTEST := $(THREADS) $(BIN)/python -m pytest -n 2 --dist worksteal
UNCHECKED := $(addprefix tests/contract/,test_backends.py test_module_kinds.py)
CONTRACTS := $(filter-out $(UNCHECKED),$(wildcard tests/contract/test_*.py))
CHECKED := $(addprefix tests/unit/,engine models losses probes optim) $(CONTRACTS)
SHAPES := --jaxtyping-packages=fathomlab.engine,fathomlab.models,fathomlab.losses,fathomlab.probes,beartype.beartype

test: setup-test
	$(PYTEST) $(CHECKED) $(SHAPES) $(MARKS)
	$(PYTEST) $(addprefix --ignore=,$(CHECKED)) $(MARKS)

# The tests of optional dependencies are skipped where these are not installed. Here they are.
test-all: setup-extras
	$(MAKE) test MARKS='-m ""'

check: setup-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/codespell

# What must hold before a release: the documentation builds, every block of it runs, and the wheel works in a clean environment
# for each supported Python on the path, or for PYTHONS="python3.12 python3.13".
release-check: setup-extras .venv-release/.ready
	$(MAKE) docs
	$(PYTEST) tests/documentation tests/release -m ""
	.venv-release/bin/python -m tests.release --torch $(TORCH) $(PYTHONS)

reference: setup
	$(BIN)/python -m reference

# The site is in build/site. Zensical finds the tools that format signatures on the PATH.
docs: .venv-docs/.ready
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" .venv-docs/bin/zensical build --strict --clean

bench: setup .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks

clean:
	rm -rf .venv .venv-bench .venv-docs .venv-release build .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
