# smolmake: `make toy` sets up and runs the whole toy pipeline; `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
RECIPE ?= toy
DOT ?= dot
ifneq ($(words $(RECIPE)),1)
$(error RECIPE="$(RECIPE)" is not one recipe: give one name of config/recipes or one path, such as RECIPE=toy)
endif
FILE ?= plan-$(basename $(notdir $(RECIPE))).svg
# Options for the installation of torch, such as the index of its builds without CUDA.
TORCH_PIP_ARGS ?=
PYTEST_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.set-up
EXTRAS := .venv-extras/.set-up
SNAKEMAKE := $(BIN)/snakemake --workflow-profile profiles/local --config recipe=$(RECIPE) $(if $(CONSENT),consent=$(CONSENT))
LATEST := results/latest/$(basename $(notdir $(RECIPE)))
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
# Bytecode is left to the first import: most of what is installed is never imported here. It is kept then, even where
# the environment forbids it, as images of containers like to: compiling torch anew takes longer than many a step.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --no-compile --no-input --disable-pip-version-check
# pip's output cut down to what tells how far it is; its errors stay whole.
PIP_PROGRESS := 2> >(grep -v '^WARNING: Location' >&2) | awk ' \
	/^Collecting/ && ++found % 25 == 0 { print "  found " found " packages" } \
	/^ *Downloading / && ($$NF ~ /GB/ || $$NF ~ /MB/ && substr($$(NF - 1), 2) + 0 >= 50) { \
		n = split($$2, part, "/"); print "  downloading " part[n] " " $$(NF - 1) " " $$NF } \
	/^Installing collected/ { print "  installing" } \
	{ fflush() }'
CODE := src workflow tests tools config benchmarks

.PHONY: help setup toy plan status nodes compute adopt gc test extras-test check graph picture report-pictures \
	slurm-profile slurm-test chaos clean-env

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: RECIPE=$(RECIPE) (a name in config/recipes or a path), CONSENT, PYTHON=$(PYTHON), PYTEST_ARGS, TORCH_PIP_ARGS"

setup: $(STAMP) ## create .venv with everything that is needed

$(STAMP): pyproject.toml constraints.txt
	@found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null) \
	  || { echo "error: there is no $(PYTHON): install Python 3.11 or newer, or name it: make setup PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: smolmake needs Python 3.11 or newer, $(PYTHON) is $$found: make setup PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: $(PYTHON) $$found has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	echo "set-up 1/3: .venv with Python $$found"; \
	$(PYTHON) -m venv .venv
	@echo "set-up 2/3: $(TORCH)"
	@set -o pipefail; $(PIP) $(TORCH_PIP_ARGS) -c constraints.txt '$(TORCH)' $(PIP_PROGRESS)
	@echo "set-up 3/3: smolmake and its $$(grep -c == constraints.txt) pinned dependencies"
	@set -o pipefail; $(PIP) --no-build-isolation -c constraints.txt -e '.[dev]' $(PIP_PROGRESS)
	@touch $@

toy: $(STAMP) ## run a recipe from raw text to report (RECIPE=toy; CONSENT=GPU_HOURS runs it over budget)
	@$(SNAKEMAKE)
	@if [ -e "$(LATEST)/report.html" ]; then echo "The report: $(LATEST)/report.html"; \
	else echo "The report is in results/latest/, under the recipe's name."; fi

plan: $(STAMP) ## what a recipe would run, why, and what it costs (JSON=FILE writes it as JSON too)
	@$(SNAKEMAKE) --dry-run $(if $(JSON),--logger-smolmake-json $(JSON))

status: $(STAMP) ## where a run is: stages, training, goodput, incidents, time left, disk (JSON=yes, WATCH=SECONDS)
	@$(BIN)/python -m smolmake.planning.status $(RECIPE) $(if $(JSON),--json) $(if $(WATCH),--watch $(WATCH))

nodes: $(STAMP) ## list the nodes that a preflight excluded; CLEAR=NODE,NODE or CLEAR=all lets them take jobs again
	@$(BIN)/python -m smolmake.cluster.excluded_nodes $(if $(CLEAR),--clear $(CLEAR))

compute: $(STAMP) ## model, tokens, GPUs, days, MFU, goodput: the missing one (ARGS="--model smollm3-3b --gpus 384 ...")
	$(if $(strip $(ARGS)),,$(error ARGS is missing: make compute ARGS="--model smollm3-3b --gpus 384 --days 24 --mfu 30% --goodput 0.9"))
	@$(BIN)/python -m smolmake.planning.estimate $(ARGS)

adopt: $(STAMP) ## print the lines by which a recipe adopts FOLDER, token shards or a model
	$(if $(strip $(FOLDER)),,$(error FOLDER is missing: make adopt FOLDER=models/SmolLM3-3B-Base))
	@$(BIN)/python -m smolmake.planning.adopt $(FOLDER)

gc: $(STAMP) ## list the results that no recipe reaches any more, or spare optimizer states (STATES=yes); DELETE=yes deletes
	@$(BIN)/python -m smolmake.planning.gc $(if $(filter yes,$(STATES)),--states) $(if $(filter yes,$(DELETE)),--delete) $(RECIPES)

test: $(STAMP) ## run the tests (PYTEST_ARGS="-m 'not slow'" for the quick ones)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# Versions that clash, and what makes every import slower: beside the packages of .venv, which it sees.
$(EXTRAS): $(STAMP) constraints-extras.txt
	@echo "set-up of .venv-extras: $$(grep -c == constraints-extras.txt) packages over those of .venv"
	@$(PYTHON) -m venv .venv-extras
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-extras/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	@set -o pipefail; .venv-extras/bin/python -m pip install --no-compile --no-input --disable-pip-version-check \
	  --no-deps -r constraints-extras.txt $(PIP_PROGRESS)
	@touch $@

extras-test: $(EXTRAS) ## run the tests of DeepSpeed, trackio and wandb in an environment of their own
	@.venv-extras/bin/python -m pytest -m needs $(PYTEST_ARGS)

check: $(STAMP) ## ruff, mypy, snakefmt, snakemake --lint
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint

graph: $(STAMP) ## draw a recipe's rules into results/latest/RECIPE/rulegraph.svg (needs graphviz)
	@command -v $(DOT) > /dev/null || { echo "error: graphviz's program $(DOT) is not installed:" \
	  "apt install graphviz (Debian and Ubuntu), brew install graphviz (macOS)" >&2; exit 1; }
	@mkdir -p "$(LATEST)"
	@set -o pipefail; $(SNAKEMAKE) --rulegraph dot --quiet all | $(DOT) -Tsvg > "$(LATEST)/.rulegraph.svg"
	@mv "$(LATEST)/.rulegraph.svg" "$(LATEST)/rulegraph.svg"
	@echo "The graph: $(LATEST)/rulegraph.svg"

picture: $(STAMP) ## draw a recipe's stages with their states and prices (RECIPE=toy FILE=plan.svg)
	@$(BIN)/python workflow/scripts/draw_plan.py $(RECIPE) $(FILE)
	@echo "The picture: $(FILE)"

report-pictures: $(STAMP) ## take the pictures of docs/images from the toy's report (needs chromium)
	@$(BIN)/python tools/take_pictures.py --recipe $(notdir $(basename $(RECIPE)))

slurm-profile: ## let `snakemake --profile slurm` find profiles/slurm by that name
	@place="$${XDG_CONFIG_HOME:-$$HOME/.config}/snakemake"; mkdir -p "$$place"; \
	if [ -e "$$place/slurm" ] && [ ! -L "$$place/slurm" ]; then \
	  echo "error: $$place/slurm is there and no link: move it away first" >&2; exit 1; fi; \
	ln -sfn "$(CURDIR)/profiles/slurm" "$$place/slurm"; echo "$$place/slurm -> $(CURDIR)/profiles/slurm"

# Exit code 3 of `start`: this machine cannot run the daemons, and it has said why.
slurm-test: $(EXTRAS) ## run tests/slurm on a real Slurm that is started and removed again (as root, Debian or Ubuntu)
	@code=0; $(BIN)/python tools/slurm_cluster.py start || code=$$?; \
	if [ $$code = 3 ]; then exit 0; elif [ $$code != 0 ]; then exit $$code; fi; \
	trap '$(BIN)/python tools/slurm_cluster.py stop' EXIT; \
	$(BIN)/python -m pytest -n0 -m 'not chaos' tests/slurm $(PYTEST_ARGS) && \
	.venv-extras/bin/python -m pytest -n0 -m needs tests/slurm $(PYTEST_ARGS)

chaos: $(STAMP) ## train on that Slurm while something breaks every minute (ARGS="--minutes 20 --seed 1")
	@$(BIN)/python tools/slurm_cluster.py start && \
	{ trap '$(BIN)/python tools/slurm_cluster.py stop' EXIT; \
	  $(BIN)/python -m pytest -n0 -m chaos tests/slurm && $(BIN)/python tests/slurm/chaos.py $(ARGS); }

clean-env: ## remove .venv
	rm -rf .venv
