# Two commands from a bare machine with Python 3.11 or newer: `make demo` and `make test`.
#
#   make demo                   train and evaluate one small app a domain; runs/demo/index.html shows the reports
#   make test                   the tests, in two processes (PYTEST="-k name" narrows them)
#   make environment            only install what the tests need
#   make faults                 what may go wrong in a run: kills, full disks, damage, NaN (a part of make test)
#   make fuzz                   hostile files through every reader: 100,000 each or 20 minutes (FUZZ="png --minutes 2")
#   make soak                   random faults into real trainings for half an hour (SOAK="--minutes 5 --seed 1")
#   make aot                    compile every GPU kernel for the table's parts, and record what they take
#   make check                  lint, types and the import contract
#   TORCH_INDEX=URL make demo   torch from another package index, such as PyTorch's own for CPU builds
#   PYTHON=python3.12 make ...  another interpreter;  VENV=DIR make ...  another environment

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# An environment is good for one pyproject.toml in one folder: when either changes, it is installed again.
KEY := $(shell (cat pyproject.toml; pwd) | cksum | cut -d ' ' -f 1)
DEMO_STAMP := $(VENV)/.isoform-$(KEY)-demo
TEST_STAMP := $(VENV)/.isoform-$(KEY)-demo,dev

QUIET := $(if $(CI),--quiet)
# Threads that spin while they wait take the cores from whoever else runs: ten times slower on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE
# Two test processes of one thread each.
TEST_ENV := OMP_NUM_THREADS=1
KERNELS := tests/core/attention/triton tests/pointcloud/triton

.PHONY: demo test test-kernels test-main faults fuzz soak aot check format clean
.DEFAULT_GOAL := demo

demo: $(DEMO_STAMP)
	$(BIN)/python demos/all.py

# The kernels run in Triton's interpreter, which is chosen before Triton is imported: a process of their own.
test: test-kernels test-main

test-kernels: $(TEST_STAMP)
	@$(BIN)/python -c 'import triton' 2>/dev/null || { echo 'No Triton on this platform: its kernels are not tested.'; exit 0; }; \
		set -x; $(TEST_ENV) TRITON_INTERPRET=1 $(BIN)/python -m pytest $(KERNELS) -q -n 2 --dist worksteal $(PYTEST)

test-main: $(TEST_STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest $(KERNELS:%=--ignore=%) -q -n 2 --dist worksteal --durations=15 $(PYTEST)

faults: $(TEST_STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest tests/faults -q -n 2 --dist worksteal --durations=5 $(PYTEST)

fuzz: $(TEST_STAMP)
	$(TEST_ENV) $(BIN)/python -m fuzz $(FUZZ)

soak: $(TEST_STAMP)
	$(TEST_ENV) $(BIN)/python -m soak $(SOAK)

# No GPU is needed. Compiles what has changed since it was recorded, each package's kernels in a file beside them.
# AOT= checks the records instead.
AOT ?= --all
aot: $(TEST_STAMP)
	$(BIN)/python -m isoform.core.attention.aot $(AOT)
	$(BIN)/python -m isoform.pointcloud.ops.aot $(AOT)

check: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs/demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Whoever can test can also demonstrate: the larger environment serves both.
$(DEMO_STAMP):
	@[ -e '$(TEST_STAMP)' ] || $(MAKE) --no-print-directory install EXTRAS=demo
	@touch '$@'

$(TEST_STAMP):
	@$(MAKE) --no-print-directory install EXTRAS=demo,dev
	@touch '$@'

.PHONY: environment install
environment: $(TEST_STAMP)

install:
	@[ -n '$(PYTHON)' ] || { echo 'isoform needs Python 3.11 or newer: install it, or name it with PYTHON=...'; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf '$(VENV)' && $(PYTHON) -m venv '$(VENV)'; } || \
		{ echo 'No virtual environment could be made: on Debian and Ubuntu install python3-venv.'; exit 1; }
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install $(QUIET) --index-url '$(TORCH_INDEX)' 'torch>=2.6' 'torchvision>=0.21')
	$(BIN)/python -m pip install $(QUIET) --editable '.[$(EXTRAS)]'
