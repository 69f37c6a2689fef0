# coordd: `make run` and `make test` set up all they need, with nothing but Python 3.11+, make and the package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LAB ?= .cache/lab
FAILOVER ?= .cache/failover
RUNS ?= 1000000
JOBS ?= 2
FAILOVERS ?= 2000
SECONDS ?= 14400
# Tests that compute run beside those that mostly wait for processes. The latter go first where both want a core, so
# the former need patience.
COMPUTING := tests/lab tests/mutation tests/simulation tests/unit
COMPUTED := .cache/computing.log
SOURCES := pyproject.toml constraints.txt hatch_build.py $(wildcard proto/coordd/pb/*.proto)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test check format unit interop simulate soak mutants bench bench-failover proto constraints clean

run: $(VENV)/.installed  ## start an embedded etcd and an active-standby pair, and show who leads
	$(BIN)/coordd dev

test: $(VENV)/.installed-test $(LAB)/.installed  ## all tests: real etcd, real processes, real Milvus nodes
	$(BIN)/python -m tests.halves $(COMPUTED) $(COMPUTING)

check: $(VENV)/.installed-test  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: $(VENV)/.installed-test  ## the quick tests only
	$(BIN)/python -m pytest tests/unit

interop: $(VENV)/.installed-test $(LAB)/.installed  ## the tests with real Milvus processes only
	$(BIN)/python -m pytest tests/interop

simulate: $(VENV)/.installed-test  ## RUNS seeded runs of the election on JOBS cores
	$(BIN)/python -m tests.simulation --runs $(RUNS) --jobs $(JOBS)

soak: $(VENV)/.installed-test  ## FAILOVERS of real replicas in trouble, at most SECONDS, every answer judged
	GRPC_VERBOSITY=ERROR $(BIN)/python -m tests.faults.soak --failovers $(FAILOVERS) --seconds $(SECONDS)

mutants: $(VENV)/.installed-test  ## take each safeguard out, one at a time: the suite must notice
	$(BIN)/python -m tests.mutation.run

bench: $(VENV)/.installed-test $(LAB)/.installed  ## measure side by side with Milvus
	$(BIN)/python -m bench

bench-failover: $(VENV)/.installed-bench $(LAB)/.installed  ## outages by kind of event, with a plot; about an hour
	mkdir -p $(FAILOVER)
	$(BIN)/python -m bench.failover --json $(FAILOVER)/coordd.json
	$(BIN)/python -m bench.failover --product milvus --ttl 30 --count 5 --slow-count 5 --requests 0 \
	  --json $(FAILOVER)/milvus.json
	$(BIN)/python -m bench.failover --report $(FAILOVER)/coordd.json $(FAILOVER)/milvus.json \
	  --plot docs/failover.png

proto: $(VENV)/.installed-test  ## compile proto/ again
	$(BIN)/python hatch_build.py

constraints: $(VENV)/.installed-test  ## write the versions installed now as tomorrow's
	$(BIN)/python -m pip freeze --exclude-editable --exclude coordd > constraints.txt

clean:  ## remove what make made
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("coordd needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[embed]'
	@touch $@

$(VENV)/.installed-test: $(BIN)/python $(SOURCES)
	$(PIP) --editable '.[embed,dev,test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(PIP) --editable '.[embed,dev,test,bench]'
	@touch $@

$(LAB)/.installed: $(VENV)/.installed-test tests/lab/install.py $(wildcard tests/lab/*requirements.txt)
	$(BIN)/python -m tests.lab.install $(LAB)
	@touch $@
