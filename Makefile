# Everything here starts from a fresh clone with nothing but make and Python 3.11+.
PYTHON ?= python3
ARGS ?=

VENV := .venv
LOWEST := .venv-lowest
BENCH := .venv-bench
LOCK := .venv-lock
LOCALSTACK := .venv-localstack
APPS := .venv-apps
# LocalStack's last free release runs on Python 3.13 alone.
PYTHON313 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13 /usr/bin/python3.13 /usr/local/bin/python3.13))

# Twice -q: pip then prints errors only.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help apps demo test test-lowest bench lint vectors matrix contract-localstack soak suite mutants lock clean \
   check-python has-python313

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile
	@echo '  ARGS="..." is passed on by demo, test, test-lowest, bench, matrix, soak, suite, mutants and contract-localstack; PYTHON=python3.x picks the interpreter.'

demo: $(VENV)/.installed ## run the example from start to end
	@$(VENV)/bin/python -m examples.locations demo $(ARGS)

test: $(VENV)/.installed ## run every test on the newest SQLAlchemy
	@$(VENV)/bin/python -m pytest $(ARGS)

test-lowest: $(LOWEST)/.installed ## run every test on the lowest supported versions
	@$(LOWEST)/bin/python -m pytest $(ARGS)

bench: $(BENCH)/.installed ## measure, next to other libraries
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

lint: $(VENV)/.installed ## check style, formatting and types
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy --no-error-summary

vectors: $(VENV)/.installed ## check that the format vectors are what the code writes, and catch wrong readers
	@$(VENV)/bin/python -m tests.vectors.generate --check
	@$(VENV)/bin/python -m tests.vectors.bugs

matrix: $(VENV)/.installed ## run every triple of axes of models and statements (an hour)
	@$(VENV)/bin/python -m tests.matrix $(or $(ARGS),--strength 3)

contract-localstack: $(VENV)/.installed $(LOCALSTACK)/.installed ## hold LocalStack to docs/kms-contract.md (Python 3.13)
	@$(VENV)/bin/python -m tests.contract.localstack $(LOCALSTACK)/bin/python \
	   $(VENV)/bin/python -m pytest tests/contract $(ARGS)

apps: $(APPS)/.installed ## run three applications of others, plain and encrypted
	@$(APPS)/bin/python -m tests.apps

soak: $(VENV)/.installed ## write and read under faults for ten minutes
	@$(VENV)/bin/python -m tests.testing.soak $(or $(ARGS),--seconds 600)

suite: $(VENV)/.installed ## run SQLAlchemy's own ORM tests with encrypted columns, and compare
	@$(VENV)/bin/python -m tests.differential $(ARGS)

mutants: $(VENV)/.installed ## change one thing at a time, and see whether a test notices
	@$(VENV)/bin/python -m tests.mutants reach
	@$(VENV)/bin/python -m tests.mutants run $(ARGS)

lock: check-python ## renew constraints.txt with today's newest versions
	@rm -rf $(LOCK)
	@$(PYTHON) -m venv $(LOCK)
	@$(LOCK)/bin/python $(PIP_INSTALL) -e '.[dev,bench]'
	@{ echo '# The newest versions that the project is tested with: development tools, example and'; \
	   echo '# benchmarks. Written by `make lock`; do not edit. The lowest: constraints-lowest.txt.'; \
	   $(LOCK)/bin/python -m pip freeze --disable-pip-version-check --exclude-editable; \
	 } > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@rm -rf $(LOCK)

clean: ## remove the environments and caches
	@rm -rf $(VENV) $(LOWEST) $(BENCH) $(LOCK) $(LOCALSTACK) $(APPS) .mutants .suite .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed $(BENCH)/.installed: constraints.txt
$(LOWEST)/.installed: constraints-lowest.txt

$(VENV)/.installed $(LOWEST)/.installed: extras := dev
$(BENCH)/.installed: extras := bench

$(VENV)/.installed $(LOWEST)/.installed $(BENCH)/.installed: pyproject.toml | check-python
	@echo "Installing into $(@D) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) -e '.[$(extras)]' -c $(filter constraints%,$^)
	@touch $@

has-python313:
	@test -n "$(PYTHON313)"

# In an environment of its own: it pins what this project does not. Later releases of the last
# two packages do not go with it.
$(LOCALSTACK)/.installed:
	@test -n "$(PYTHON313)" || { echo "Python 3.13 is needed: make $@ PYTHON313=/path/to/python3.13" >&2; exit 1; }
	@echo "Installing into $(@D) ..."
	@$(PYTHON313) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) 'localstack-core[runtime]==2026.3.0' 'cbor2<6' 'pyopenssl<26'
	@touch $@

# In an environment of its own too: applications are no dependency of anything here.
$(APPS)/.installed: pyproject.toml | check-python
	@echo "Installing into $(@D) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) -e '.[postgresql,mysql]' optuna==5.0.0 apscheduler==3.11.3 celery==5.7.0
	@touch $@

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	   echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..." >&2; \
	   exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	   echo "$(PYTHON) lacks venv or ensurepip (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	   exit 1; }
