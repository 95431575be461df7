# Two commands on a fresh machine: `make book` and `make test`. Both make .venv from requirements.lock first.
# Every target but `lock` and `clean` only calls the `jepa` command or pytest inside .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
NO_INSTALL := Installing failed. It needs a network (or an index that pip is set to), once; the same command tries again.

.DEFAULT_GOAL := help
.PHONY: help book pdf test format verify bench lock clean

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

book: $(READY)  ## run the chapters that are stale, then build the HTML
	$(BIN)/jepa book

pdf: book  ## build the book, then print it into one PDF; needs a Chromium
	$(BIN)/jepa pdf

# One thread each for two processes: two threads on busy cores only get in each other's way.
test: $(READY)  ## check style, run all tests and, under the smoke profile, all notebooks; no network
	@start=$$(date +%s); status=0; \
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && \
	JEPA_PROFILE=smoke JEPA_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests notebooks -n 2 --dist loadfile --no-loadscope-reorder \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=120 || status=$$?; \
	echo "make test: $$(($$(date +%s) - start)) s"; exit $$status

format: $(READY)  ## lay the lines of all Python, and of the notebooks' code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

verify: $(READY)  ## run every chapter under the laptop profile and check every claim
	$(BIN)/jepa verify

bench: $(READY)  ## print the performance table and write results/bench.json
	$(BIN)/jepa bench

# The stamp is written last, so an install that was interrupted is done again.
# The lock holds the build tools too: without build isolation the last step downloads nothing.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "This book needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one, for example:  make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@rm -f $@
	@echo "Making .venv from requirements.lock (once; a few minutes, mostly downloads) ..."
	$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock || { echo "$(NO_INSTALL)"; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . || { \
		echo "$(NO_INSTALL)"; exit 1; }
	@touch $@

# torch is named by hand because a CPU-only index offers "2.13.0+cpu", which other platforms do not have:
# the sed takes the suffix off. Existing pins are kept unless UPGRADE is set (make lock UPGRADE=--upgrade).
lock:  ## write requirements.lock anew from pyproject.toml (needs network)
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools/venv"; \
	"$$tools/venv/bin/python" -m pip install --disable-pip-version-check pip-tools; \
	cp requirements.lock "$$tools/requirements.lock"; \
	"$$tools/venv/bin/pip-compile" --all-extras --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header -P torch==2.13.0 $(UPGRADE) -o "$$tools/requirements.lock" pyproject.toml; \
	sed 's/+cpu//' "$$tools/requirements.lock" > requirements.lock

clean:  ## remove .venv and the built book
	rm -rf .venv _build
