# Every target sets up what it needs first; a second run takes no time.
PYTHON ?= python3
BIN := .venv/bin
UV := UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python
# Two runs in one clone wait for each other: the lock is on this file itself.
LOCKED := $(shell command -v flock >/dev/null 2>&1 && echo flock Makefile)
TEMPLATES = $(shell find templates -name '*.html' 2>/dev/null)
STATIC = $(shell find static -type f 2>/dev/null)
PACKAGES := access config console core monitoring registry serving

.DEFAULT_GOAL := up
.PHONY: up demo test lint fix proto bench setup setup-dev clean _runtime _dev _types _structure

up: setup  ## Run the product with its demo.
	@exec $(BIN)/signalbox up

demo: setup  ## The same, with the demo started again if it was stopped.
	@$(BIN)/signalbox demo start && SIGNALBOX_DEMO=1 exec $(BIN)/signalbox up --unless-running

setup:  ## Install what `up` needs.
	@$(LOCKED) $(MAKE) --no-print-directory _runtime

setup-dev:  ## Install what `test` and `lint` need.
	@$(LOCKED) $(MAKE) --no-print-directory _dev

_runtime: .venv/.runtime .venv/bin/signalbox .venv/.compiled .static/.stamp
	@:
_dev: .venv/.dev .venv/bin/signalbox .venv/.compiled .static/.stamp
	@:

.venv/bin/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Signalbox needs Python 3.11 or later, and $(PYTHON) is not. Install it, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Making .venv" >&2
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.runtime: requirements/runtime.txt .venv/bin/uv
	@echo "Installing the Python packages of requirements/runtime.txt" >&2
	@$(UV) -r requirements/runtime.txt
	@touch $@

.venv/.dev: requirements/dev.txt .venv/bin/uv
	@echo "Installing the Python packages of requirements/dev.txt" >&2
	@$(UV) -r requirements/dev.txt
	@touch $@ .venv/.runtime

# The project itself: a path entry and a command, without a build. A folder's name may have a space,
# which no #! line takes; -P keeps the modules of whatever folder one is in out of the way.
.venv/bin/signalbox: .venv/bin/uv
	@$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "signalbox.pth").write_text("$(CURDIR)\n")'
	@printf '#!/bin/sh\nexec "%s" -P -m config.cli.main "$$@"\n' '$(CURDIR)/$(BIN)/python' > $@
	@chmod +x $@

# As the packages are: else every process would compile the code anew where Python is told to write none (PYTHONDONTWRITEBYTECODE).
.venv/.compiled: $(shell find $(PACKAGES) -name '*.py' 2>/dev/null) .venv/bin/uv
	@$(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@

# The system's npm if it reads today's lock files, else the one of a Python package.
node_modules/.ready: package.json package-lock.json | .venv/bin/uv
	@echo "Installing the front-end files of package-lock.json" >&2
	@npm=npm; case "$$(npm --version 2>/dev/null)" in \
	  ''|[1-7].*) $(UV) -r requirements/node.txt; npm="$(BIN)/npm"; PATH="$(CURDIR)/$(BIN):$$PATH" ;; esac; \
	  said=$$($$npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error 2>&1) || { echo "$$said" >&2; exit 1; }
	@touch $@

# Compressed here, so that no start waits for it.
.static/.stamp: node_modules/.ready $(STATIC) | .venv/.runtime
	@echo "Compressing the files of the pages" >&2
	@$(BIN)/python -m config.up.static_files
	@touch $@

# The checks run beside the tests, which wait a third of their time; what they find is said at the end.
test: setup-dev  ## Every check and every test.
	@deploy/install-chromium
	@$(MAKE) --no-print-directory lint >.lint.log 2>&1 & checks=$$!; \
	  $(BIN)/python -m pytest -n 3 --dist loadgroup; failed=$$?; \
	  wait $$checks || { cat .lint.log >&2; echo "make lint fails: see above" >&2; exit 1; }; \
	  tail -n 3 .lint.log; exit $$failed

lint: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target _types _structure

_types:
	$(BIN)/mypy

_structure:
	$(BIN)/lint-imports
	@$(if $(TEMPLATES),$(BIN)/djade --check --target-version 5.2 $(TEMPLATES))
	@deploy/check-lengths
	@deploy/check-project
	@deploy/audit-packages

fix: setup-dev  ## Put right what the tools can put right.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(if $(TEMPLATES),-$(BIN)/djade --target-version 5.2 $(TEMPLATES))

proto: setup-dev  ## Write the Python of the gRPC messages again.
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. serving/dataplane/grpc/inference.proto

bench: setup-dev  ## Measure, and write the numbers.
	$(BIN)/python -m benchmarks

clean:  ## Remove what was installed and cached. The data in var/ stays.
	rm -rf .venv node_modules .static .lint.log .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
