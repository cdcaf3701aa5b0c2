# Transship. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# State of everything that `make up` runs; another directory may be named on the command line.
export TRANSSHIP_HOME ?= $(CURDIR)/.transship
TRANSSHIP := .venv/bin/transship

# IMAGE: what `make up` imports; empty: a bootable image from a Debian package.
IMAGE ?=
# URL: what `make import` imports.
URL ?=
# ARGS: further options for up, import, test, test-postgresql, chaos or bench.
ARGS ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Install the locked environment into .venv, and Debian's qemu-utils
	@scripts/bootstrap

.PHONY: up
up: bootstrap ## Start everything and import one real image (IMAGE=https://… for another)
	@scripts/up '$(IMAGE)' $(ARGS)

.PHONY: down
down: ## Stop everything
	@if [[ -x $(TRANSSHIP) ]]; then $(TRANSSHIP) down; fi

.PHONY: status
status: bootstrap ## Show what runs and what it holds
	@$(TRANSSHIP) status

.PHONY: import
import: bootstrap ## Import an image: URL=https://… [ARGS='--disk-format qcow2']
	@$(TRANSSHIP) import '$(URL)' $(ARGS)

# WORKERS: how many processes share the tests; 0: none beside pytest itself.
WORKERS ?= 2
PYTEST := .venv/bin/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: test
test: bootstrap ## Run the tests
	@$(PYTEST) $(ARGS)

# Rooms whose tests open no catalogue: the database changes nothing there.
WITHOUT_CATALOGUE := architecture blocks config contract deployments host identity plugins sources staging supervisor unit

.PHONY: test-postgresql
test-postgresql: bootstrap ## Run the tests that open a catalogue, on PostgreSQL instead of SQLite
	@$(PYTEST) --database postgresql $(WITHOUT_CATALOGUE:%=--ignore=tests/%) $(ARGS)

.PHONY: test-peers
test-peers: bootstrap ## Run the tests with a real Keystone, a real Glance and a real Ceph
	@$(PYTEST) --peers -m peers $(ARGS)

.PHONY: chaos
chaos: bootstrap ## Kill processes of a running system at random and see that nothing is lost: ARGS='--kills 200'
	@.venv/bin/python -m tests.chaos $(ARGS)

.PHONY: check
check: bootstrap ## Lint, check formats, types and the direction of imports
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

.PHONY: docs
docs: bootstrap ## Write the generated pages anew: settings, policies and samples, errors, intake, acceptance
	.venv/bin/python -m config.show
	.venv/bin/python -m tests.architecture.errors_page
	.venv/bin/python -m tests.sources.intake_rows
	.venv/bin/python -m tests.acceptance.page

.PHONY: format
format: bootstrap ## Format the code and repair what the linter can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: bench
bench: bootstrap ## Measure imports and compare them with a peer
	@.venv/bin/python -m bench $(ARGS)
