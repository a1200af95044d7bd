# Everything that a fresh machine needs: Python 3.11 or newer, make, and a package registry. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# Where nothing is cached, each of the hundreds of processes of a test run compiles torch and all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
TORCH ?=
ONLY ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := --extra demo --extra dev
WORKERS ?= 2
PYTEST := $(BIN)/pytest --durations=15

##@ For everyone
.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED) ## make .venv with the locked packages; TORCH=cpu for the CPU-only build (every target calls this)

.PHONY: demo
demo: setup ## watch the wheel turn: simulated people, a real broker, a trained and judged model
	@$(BIN)/flywheel demo

.PHONY: kafka
kafka: ## start one Apache Kafka node on loopback (needs Java 17 and Maven)
	@scripts/kafka start

##@ For those who change it
# Whole turns train with two threads of their own, so they come first and alone; all else is shared among the workers.
.PHONY: test
test: setup ## run the tests, but for those longer than a minute, in WORKERS=2 processes
	@OMP_NUM_THREADS=1 $(PYTEST) -m "not slow and not soak" tests/integration
	@OMP_NUM_THREADS=1 $(PYTEST) -m "not slow and not soak" --ignore=tests/integration -n $(WORKERS)

.PHONY: test-slow
test-slow: setup ## run the tests longer than a minute, and a tenth of those that take over ten together
	@$(PYTEST) -m "slow or soak"

.PHONY: soak
soak: setup ## run all of the tests that take over ten minutes together
	@FLYWHEEL_TEST_SOAK=1 $(PYTEST) -m soak

.PHONY: lint
lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: setup ## let ruff put the format right
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: types
types: setup ## mypy, strict
	@$(BIN)/mypy

.PHONY: contracts
contracts: setup ## import-linter: who may import whom
	@$(BIN)/lint-imports

.PHONY: check
check: lint types contracts test ## all of the above

.PHONY: hooks
hooks: setup ## let git check each commit: on changed files what CI checks, and the subject's length
	@$(BIN)/pre-commit install

.PHONY: lock
lock: setup ## bring requirements.lock up to pyproject.toml: one file, hashed, for every platform
	@$(BIN)/uv pip compile pyproject.toml $(EXTRAS) --python-version 3.11 --universal --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

.PHONY: sbom
sbom: setup ## write the bill of materials of a release, flywheel.cdx.json (CycloneDX), from the lock
	@$(BIN)/python scripts/sbom >flywheel.cdx.json

.PHONY: image-check
image-check: ## build the image, start it, search in it, stop it; with Docker, else as root on Debian with its own packages
	@scripts/image-check

.PHONY: clean
clean: ## remove .venv and every cache; homes and the broker's data stay
	@rm -rf $(VENV) build dist flywheel.cdx.json ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is younger than what it was made from: a second `make setup` does nothing, a changed lock installs again.
$(INSTALLED): requirements.lock pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" "$(VENV)" "$(TORCH)" "$(ONLY)"
