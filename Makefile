# What one types: make run, make test. mise.toml gives the same targets other names.
# VENV and PYTHON may be set: make test PYTHON=python3.13 VENV=.venv-313
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest
# two processors, a file each; in the files' own order, else the few long tests come last and one of them waits
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup needs run check test unit integration e2e test-letta bench bench-bus bench-log bench-worktrees soak logs-% start-% stop-%

help: ## this list
	@grep -hE '^[a-z0-9%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/ready ## the virtual environment with iMi and its tools

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "iMi needs Python 3.11 or newer: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Python's venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --group dev --editable .
	@touch $@

needs:
	@tests/needs

run: setup ## PostgreSQL, migrations and the API in one process, on http://127.0.0.1:8400
	@exec $(BIN)/imi up

check: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup needs ## everything, with coverage
	$(PYTEST) $(PARALLEL) --cov --cov-report=term --cov-fail-under=90

unit: setup ## the rules: SQL functions and contract
	$(PYTEST) tests/sql tests/api/test_contract.py

integration: setup needs ## the doors: HTTP, the bus, command line, deployment, races
	$(PYTEST) $(PARALLEL) tests/api tests/bloodbank tests/letta tests/cli tests/deploy tests/concurrency

e2e: setup needs ## the whole: README's tour, the bus, faults, a browser
	$(PYTEST) tests/e2e tests/faults

test-letta: setup needs .letta-venv/ready ## the hand-off against a real Letta server, in an environment of its own
	LETTA_SERVER_PYTHON=.letta-venv/bin/python $(PYTEST) tests/letta

.letta-venv/ready: tests/letta/server-requirements.txt
	$(PYTHON) -m venv .letta-venv
	.letta-venv/bin/pip install --quiet --no-deps -r tests/letta/server-requirements.txt
	@touch $@

bench: setup ## requests/s and latencies beside their references
	$(BIN)/python -m tests.bench

bench-bus: setup needs ## events/s and latencies of the bus beside its client alone and COPY
	$(BIN)/python -m tests.bench.bus

bench-log: setup ## how a long log is read, walked, streamed and projected anew
	$(BIN)/python -m tests.bench.log

bench-worktrees: setup ## the worktree commands beside git alone
	$(BIN)/python -m tests.bench.worktrees

soak: setup needs ## the bus under every fault at full size, half an hour; SCENARIOS="broker cut-broker" runs some
	$(BIN)/python -m tests.soak $(SCENARIOS)

# One process in the background, its log and pid in .run/: store is imi up, api is imi serve beside it on 8401.
answers = import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/health', timeout=5)
start-store: command = up
start-api: command = serve --port 8401
start-%: setup
	@mkdir -p .run
	@if [ -s .run/$*.pid ] && kill -0 $$(cat .run/$*.pid) 2>/dev/null; then echo "runs already, pid $$(cat .run/$*.pid)" >&2; exit 1; fi
	@nohup $(BIN)/imi $(command) >.run/$*.log 2>&1 </dev/null & echo $$! >.run/$*.pid
	@pid=$$(cat .run/$*.pid); for half in $$(seq 120); do \
	  kill -0 $$pid 2>/dev/null || { cat .run/$*.log >&2; rm .run/$*.pid; echo "did not start" >&2; exit 1; }; \
	  url=$$(sed -n 's/^ *listens on *//p' .run/$*.log); \
	  if [ "$$url" ] && no_proxy='*' $(BIN)/python -c "$(answers)" $$url 2>/dev/null; then echo "started on $$url, pid $$pid, log in .run/$*.log"; exit; fi; \
	  sleep 0.5; \
	done; echo "pid $$pid does not answer after a minute; its log is .run/$*.log" >&2; exit 1

logs-%:
	@tail -n 100 .run/$*.log

stop-%:
	@pid=$$(cat .run/$*.pid 2>/dev/null); kill $${pid:-none} 2>/dev/null || { rm -f .run/$*.pid; echo "does not run" >&2; exit 1; }; \
	while kill -0 $$pid 2>/dev/null; do sleep 0.1; done; rm .run/$*.pid; echo stopped
