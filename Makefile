# `make` or `make help` lists what there is. Every target sets up `.venv` first, which costs nothing once it is ready.

PYTHON ?= python3
LAB_ARGS ?=
LESSON ?=
NAME ?=
PY := .venv/bin/python

# Jupyter refuses to run as root, as containers do, unless told.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# What is built and compared must not depend on who runs it: no progress bars, and no learner's own predictions.
CLEAN := TLCOURSE_PROGRESS=0 TLCOURSE_HOME="$$(mktemp -d)"

.DEFAULT_GOAL := help
.PHONY: help setup engines lab doctor test test-fast lint build lessons stability bench experiments claims

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv ready and fetch the data; nothing else
	@$(PYTHON) tools/setup.py

engines: setup ## Otter-Grader and nbgrader in an environment of their own, for the tests of `tlcourse export`
	@$(PYTHON) tools/setup.py engines

lab: setup ## set up, check, and open JupyterLab at lesson 00 (LAB_ARGS="--no-browser --port 8899")
	@$(PY) -m tlcourse doctor --quick
	$(PY) -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  $(AS_ROOT) $(LAB_ARGS)

doctor: setup ## what this machine has, and what to do about what it lacks
	@$(PY) -m tlcourse doctor

lint: setup ## style and errors, without running anything
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

test: lint engines ## everything: style, notebooks up to date, all tests, every notebook executed and compared
	$(PY) -m tools.build --check
	$(PY) -m pytest --durations=15
	$(CLEAN) $(PY) -m pytest --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg --timeout=1200 \
	  --durations=15 notebooks

test-fast: setup ## the tests without notebooks, browsers and installations (at most 5 minutes)
	$(PY) -m pytest -m "not slow" --durations=15

build: setup ## make the notebooks that are stale from sources/ (LESSON=03 for one)
	$(PY) -m tools.build $(LESSON)

lessons: setup ## execute all lessons headless, with a time a lesson (LESSON=03 for one)
	$(PY) -m tools.lessons $(LESSON)

stability: setup ## record the verdicts on one thread and without vector instructions (LESSON=03 for one)
	$(PY) -m tools.lessons --record-stability $(LESSON)

bench: setup ## the benchmarks: the cache, the Fisher information, the loop's overhead (run them on an idle machine)
	$(PY) benchmarks/cache.py
	$(PY) benchmarks/fisher.py
	$(PY) benchmarks/loop.py

experiments: setup ## make the kept results; resumes, and may take hours (NAME=... for one)
	$(PY) -m tlcourse experiments $(NAME)

claims: setup ## the table of all claims and what was found
	@$(PY) -m tlcourse claims
