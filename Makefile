# smolmake: `make toy` sets up and runs the toy recipe; `make help` lists the targets, `smolmake --help` the commands.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
RECIPE ?= toy
# Options for the installation of torch, such as the index of its builds without CUDA.
TORCH_PIP_ARGS ?=
PYTEST_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.set-up
EXTRAS := .venv-extras/.set-up
CODE := src workflow tests tools examples benchmarks
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
# Bytecode is written at the first import, since most of what is installed is never imported here, and it is kept, even
# where the environment forbids it, as container images often do: compiling torch again takes longer than many a step.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --no-compile --no-input --disable-pip-version-check
# pip's output reduced to its progress; its errors stay whole.
PIP_PROGRESS := 2> >(grep -v '^WARNING: Location' >&2) | awk ' \
	/^Collecting/ && ++found % 25 == 0 { print "  found " found " packages" } \
	/^ *Downloading / && ($$NF ~ /GB/ || $$NF ~ /MB/ && substr($$(NF - 1), 2) + 0 >= 50) { \
		n = split($$2, part, "/"); print "  downloading " part[n] " " $$(NF - 1) " " $$NF } \
	/^Installing collected/ { print "  installing" } \
	{ fflush() }'

.PHONY: help setup run toy plan status test extras-test check docs slurm-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: RECIPE=$(RECIPE) (a name or a path), CONSENT, PYTHON=$(PYTHON), PYTEST_ARGS, TORCH_PIP_ARGS"
	@echo "All else: $(BIN)/smolmake --help"

setup: $(STAMP) ## create .venv with everything that is needed

$(STAMP): pyproject.toml constraints.txt constraints-encoder.txt
	@found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null) \
	  || { echo "error: there is no $(PYTHON): install Python 3.11 or newer, or name it: make setup PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: smolmake needs Python 3.11 or newer, $(PYTHON) is $$found: make setup PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: $(PYTHON) $$found has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	echo "set-up 1/4: .venv with Python $$found"; \
	$(PYTHON) -m venv .venv
	@echo "set-up 2/4: $(TORCH)"
	@set -o pipefail; $(PIP) $(TORCH_PIP_ARGS) -c constraints.txt '$(TORCH)' $(PIP_PROGRESS)
	@echo "set-up 3/4: smolmake and its $$(grep -c == constraints.txt) pinned dependencies"
	@set -o pipefail; $(PIP) --no-build-isolation -c constraints.txt -e '.[dev]' $(PIP_PROGRESS)
	@echo "set-up 4/4: the encoder of token shards"
	@set -o pipefail; $(BIN)/python tools/install_encoder.py $(PIP_PROGRESS)
	@touch $@

run: $(STAMP) ## run a recipe from raw text to report (RECIPE=NAME; CONSENT=GPU_HOURS runs it over budget)
	@$(BIN)/smolmake run '$(RECIPE)' $(if $(CONSENT),--consent $(CONSENT))

toy: run ## the same for the toy recipe

plan: $(STAMP) ## show what a recipe would run, why, and what it costs
	@$(BIN)/smolmake plan '$(RECIPE)'

status: $(STAMP) ## show where a run is
	@$(BIN)/smolmake status '$(RECIPE)'

test: $(STAMP) ## run the tests (PYTEST_ARGS="-m 'not slow'" for the quick ones)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# Versions that clash, and what makes every import slower: beside the packages of .venv, which it sees.
$(EXTRAS): $(STAMP) constraints-extras.txt
	@echo "set-up of .venv-extras: $$(grep -c == constraints-extras.txt) packages over those of .venv"
	@$(PYTHON) -m venv .venv-extras
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-extras/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	@set -o pipefail; .venv-extras/bin/python -m pip install --no-compile --no-input --disable-pip-version-check \
	  --ignore-installed --no-deps -r constraints-extras.txt $(PIP_PROGRESS)
	@touch $@

extras-test: $(EXTRAS) ## run the tests of DeepSpeed, trackio and wandb in an environment of their own
	@.venv-extras/bin/python -m pytest -m needs $(PYTEST_ARGS)

check: $(STAMP) ## ruff, mypy, snakefmt, snakemake --lint
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint

# Without torch, and with versions of its own.
.venv-docs/.set-up: docs/requirements.txt
	@$(PYTHON) -m venv .venv-docs
	@set -o pipefail; .venv-docs/bin/python -m pip install --no-input --disable-pip-version-check -r $< $(PIP_PROGRESS)
	@touch $@

docs: .venv-docs/.set-up ## build the site of docs/ into site/, strictly
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "The site: site/index.html"

slurm-test: $(EXTRAS) ## run tests/slurm on a real Slurm that is started and removed again (as root, Debian or Ubuntu)
	@$(BIN)/python tools/slurm_cluster.py run bash -c "$(BIN)/python -m pytest -n0 -m 'not chaos' tests/slurm $(PYTEST_ARGS) \
	  && .venv-extras/bin/python -m pytest -n0 -m needs tests/slurm $(PYTEST_ARGS)"

clean: ## remove the environments and site/; results stay
	rm -rf .venv .venv-extras .venv-docs site
