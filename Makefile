# make table1   the paper's Table 1 on digits, from nothing
# make test     the tests that need nothing but Python (JOBS=3 at a time, as tests also wait): run them before every commit
# make test-all the same, then those of docs/testing.md that need more: SLURM, Chromium, DALI, TeX, timm, or minutes
# make check    lint, format, types, security rules; known vulnerabilities of the dependencies (make audit: fail on any)
# make docs     the documentation as a site, in docs/_build
# make faults   kills, damaged files, full disks, a bad W&B: what is lost, doubled or wrong (over an hour; SEED=n,
#               KILLS=n, ONLY=kills,disk; ROWS=FILE keeps what is finished, and the same command goes on after it)
PYTHON ?= python3
ENV := .venv
RUN := $(ENV)/bin/python

SEED ?= 0
KILLS ?= 200
ONLY ?=
ROWS ?=
JOBS ?= 3
PYTEST := $(RUN) -m pytest -n $(JOBS)
# containers set it; here each of the hundreds of processes that tests start would compile everything again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: table1 test test-all check audit docs faults clean
.DEFAULT_GOAL := table1

table1: $(ENV)/installed
	$(RUN) -m benchmark.sweep table1

test: $(ENV)/installed
	$(PYTEST) --dist worksteal

# after `make test`: make -o test test-all runs what that left out
test-all: $(ENV)/installed test
	$(PYTEST) --dist loadfile -m 'slurm or browser or dali or tex or examples or long'

faults: $(ENV)/installed
	$(RUN) -m tests.faults --seed $(SEED) --kills $(KILLS) --only '$(ONLY)' $(if $(ROWS),--rows '$(ROWS)')

check: $(ENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m tests.audit

docs: $(ENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(RUN) -m sphinx -q -W docs docs/_build

audit: $(ENV)/installed
	$(RUN) -m tests.audit --strict

# torch and torchvision come together, in the versions that were built for each other.
$(ENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(ENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(ENV) results/runs
