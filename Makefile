# make demo | test | quick | install | bench | clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES ?= $(shell nproc)
# Tests run side by side: one more than there are cores, because some wait; each takes up to a gigabyte.
TESTERS := $(shell echo $$(( $(CORES) < 7 ? $(CORES) + 1 : 8 )))
# PyTorch without CUDA is a tenth of the download: take it where there is no NVIDIA driver.
TORCH_INDEX := $(if $(wildcard /proc/driver/nvidia/version),,--extra-index-url https://download.pytorch.org/whl/cpu)
# Tests run the kernels for GPUs in Triton's interpreter. Triton is there for Linux alone.
KERNELS := $(if $(filter Linux,$(shell uname -s)),$(VENV)/.kernels)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PROFILES := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/snakemake

export MPLBACKEND := Agg
export PYTHONPATH := $(CURDIR)/workflow

.PHONY: help install demo test quick wheel bench clean config-readme

help:
	@echo "make install   Python environment in $(VENV)"
	@echo "make demo      simulate a dataset and find its structures; ends in results/demo/report.html"
	@echo "make test      all tests, lint and style"
	@echo "make quick     the unit tests that simulate nothing: about a minute"
	@echo "make wheel     build the wheel, install it in an empty environment, and do a round with it"
	@echo "make bench     speed of the parts that take the time (RECORD=1: keep it to compare with)"
	@echo "make clean     remove the demo's results, logs and benchmarks"

install: $(STAMP)

$(STAMP): envs/requirements.txt envs/requirements.lock pyproject.toml
	@$(PYTHON) envs/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Python packages into $(VENV) (some minutes the first time)"
	@$(PIP) --no-deps --retries 1 $(TORCH_INDEX) -c envs/requirements.lock torch
	@$(PIP) -r envs/requirements.txt -c envs/requirements.lock
	@$(PIP) --no-deps --editable .
	@mkdir -p $(PROFILES)
	@if [ ! -e $(PROFILES)/slurm ] && [ ! -L $(PROFILES)/slurm ]; then \
		ln -s $(CURDIR)/profiles/slurm $(PROFILES)/slurm; \
		echo "Linked profiles/slurm as your Snakemake profile 'slurm' ($(PROFILES)/slurm)"; \
	fi
	@touch $@

$(VENV)/.kernels: envs/kernels.txt $(STAMP)
	@$(PIP) --no-deps --retries 1 -r envs/kernels.txt
	@touch $@

demo: install
	@$(BIN)/snakemake --cores $(CORES) --configfile config/config.yaml --quiet rules
	@echo "Report: $(CURDIR)/results/demo/report.html"

test: install $(KERNELS)
	OMP_NUM_THREADS=1 $(if $(KERNELS),TOMOHET_REQUIRE_TRITON=1 )$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder -m "not slurm and not browser and not real" tests --durations 20
	$(BIN)/snakemake --lint
	$(BIN)/snakefmt --check --line-length 110 Snakefile workflow/rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TESTERS) --dist loadfile -m quick tests/unit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: install
	tests/wheel/try.sh $(CURDIR)/build/wheel

bench: install
	@$(BIN)/python tests/benchmarks/bench.py $(if $(RECORD),--record)

config-readme: install
	$(BIN)/python -m tomohet.rounds.reference > config/README.md

clean:
	rm -rf results/demo logs/demo benchmarks/demo .pytest_cache .ruff_cache
