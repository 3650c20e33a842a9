# `make book` and `make test` each work alone on a fresh machine; `make` lists all targets.
# PYTHON is only used to create .venv:  make book PYTHON=python3.12

PYTHON ?= python3
VENV   := .venv
ifeq ($(OS),Windows_NT)
BIN    := $(VENV)/Scripts
else
BIN    := $(VENV)/bin
endif
# The stamp is written last, so an install that was interrupted is taken up again.
STAMP  := $(VENV)/.installed
CHAPTERS = $(wildcard book/*.ipynb)
# Tests run side by side, a file at a time, each process on one thread; a notebook's cells stay together.
WORKERS ?= auto

START  := $(shell date +%s)
elapsed = @s=$$(( $$(date +%s) - $(START) )); printf '%s in %d min %02d s\n' $(1) $$((s / 60)) $$((s % 60))

.DEFAULT_GOAL := help
.PHONY: help book test notebooks lab bench clean site

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

book: site ## build the book into _build/html from the committed outputs
	$(call elapsed,"Built _build/html/index.html")

test: site ## build the book, then lint, test the library, re-run the notebooks, test the site
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests $(CHAPTERS) -n $(WORKERS) --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=900 \
	    --nbval-sanitize-with=tests/nbval_sanitize.cfg
	$(call elapsed,"All tests passed")

notebooks: $(STAMP) ## re-execute all chapters in place
	@set -e; for chapter in $(CHAPTERS); do \
	    $(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=900 \
	        --ExecutePreprocessor.record_timing=False "$$chapter"; \
	done
	$(call elapsed,"Re-executed all chapters")

lab: $(STAMP) ## open the chapters in JupyterLab
	$(BIN)/python -m jupyterlab --notebook-dir=book

bench: $(STAMP) ## measure against other packages, side by side; takes hours
	$(BIN)/python -m pip install -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks
	$(call elapsed,"Measured")

clean: ## remove the built book and caches; the environment and trained models stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find book ddpm_lib tests -name __pycache__ -prune -exec rm -rf {} +

# Always built whole: Sphinx reports a warning only when it reads the page, so a second, incremental build
# would pass over the warning that the first one stopped at, and pages taken out of the book would linger.
site: $(STAMP)
	rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build -n -W --keep-going .

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "This needs Python 3.10 or newer; $(PYTHON) is not. Name another one: make book PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module; install it first (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -r requirements.txt
	@touch $(STAMP)
