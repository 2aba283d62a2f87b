# Everything a contributor needs: `make lab` to see it, `make test` to test it, `make check` before a commit (it is what CI runs).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := anyconsole tests benchmarks docs

.DEFAULT_GOAL := help
.PHONY: help lab test test-cluster check lint format debian lock clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

lab: debian $(VENV)/run ## install what is missing, build the lab network and open the console on it
	$(BIN)/anyconsole lab up
	$(BIN)/anyconsole --profile lab

# Two cores are shared by real daemons and many consoles, so what fails beside others is run once more alone: a fault fails again.
TOGETHER := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=5
ALONE := $(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none

test: debian $(VENV)/dev ## install what is missing and run all the tests
	$(TOGETHER) -n 3 -m "not measures" || $(ALONE) -m "not measures"
	$(TOGETHER) -n 2 -m measures || $(ALONE) -m measures

test-cluster: $(VENV)/dev ## run the tests of Kubernetes against the cluster that ANYCONSOLE_TEST_KUBECONFIG names (CONTRIBUTING.md)
	@test -n "$$ANYCONSOLE_TEST_KUBECONFIG" || { echo "ANYCONSOLE_TEST_KUBECONFIG names no kubeconfig; CONTRIBUTING.md says how to get a cluster" >&2; exit 2; }
	$(BIN)/python -m pytest $(wildcard tests/kube tests/drivers/kube tests/e2e/test_virtual.py tests/e2e/test_read_only_role.py)

check: lint test ## what CI runs: format, lint, types, import contracts, tests

lint: debian $(VENV)/dev ## format, lint, types and import contracts, without the tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev ## format the code and mend what can be mended
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

debian: ## install the Debian packages that lab and tests need; starts and enables no service
	@scripts/install-debian

lock: $(VENV)/dev ## write the lock files anew from pyproject.toml
	$(BIN)/pip install uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build --group dev pyproject.toml -o requirements-dev.lock

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/pip: | debian
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.lock pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
