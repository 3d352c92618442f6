# fseed: `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# 1: install the CUDA build of torch; 0: a CPU build. Default: whether there is an NVIDIA driver.
GPU ?= $(if $(shell command -v nvidia-smi 2>/dev/null),1,0)
TORCH_VERSION := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check claims format bench-cpu bench-kernels bench-throughput bench-tokenizer clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create the virtual environment and install everything

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" -c constraints.txt
	@bash .ci/install_torch.sh $(BIN)/python $(TORCH_VERSION) $(GPU)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,bench]"
	@touch $@

demo: setup  ## run the main sweep on the embedded default and print its table
	$(BIN)/python -m fseed.run task=hotpot fs=scalar_l10 seed=0,1,2 -m

test: setup  ## run the quick tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not gpu"

test-slow: setup  ## run the slow tests (kills, trainings of every experiment)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "slow and not gpu"

check: setup  ## linter, formatter, type checker, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

claims: setup  ## check every published number against its records
	$(BIN)/python -m fseed.check --strict

format: setup  ## apply the formatter and the linter's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-cpu: setup  ## speed and memory ratios on the CPU
	$(BIN)/python -m tests.bench_cpu

bench-kernels: setup  ## the kernels against other libraries, on a GPU (writes outputs/kernels)
	$(BIN)/python kernels/bench --output outputs/kernels

bench-throughput: setup  ## training steps against other trainers, on a GPU (outputs/throughput)
	$(BIN)/python kernels/bench_throughput --output outputs/throughput

bench-tokenizer: setup  ## speed of the World tokenizer against the rwkv package
	$(BIN)/python -m tests.bench_tokenizer

clean:  ## remove the virtual environment and caches (never results)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
