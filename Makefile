# make table1   the paper's Table 1 on digits, from nothing
# make test     the tests
# make check    lint, format, types, security rules; known vulnerabilities of the dependencies (make audit: fail on any)
# make faults   kills, damaged files, full disks, a bad W&B: what is lost, doubled or wrong (over an hour; SEED=n,
#               KILLS=n, ONLY=kills,disk; ROWS=FILE keeps what is finished, and the same command goes on after it)
PYTHON ?= python3
ENV := .venv
RUN := $(ENV)/bin/python

SEED ?= 0
KILLS ?= 200
ONLY ?=
ROWS ?=

.PHONY: table1 test check audit faults clean
.DEFAULT_GOAL := table1

table1: $(ENV)/installed
	$(RUN) -m benchmark.sweep table1

test: $(ENV)/installed
	$(RUN) -m pytest

faults: $(ENV)/installed
	$(RUN) -m tests.faults --seed $(SEED) --kills $(KILLS) --only '$(ONLY)' $(if $(ROWS),--rows '$(ROWS)')

check: $(ENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m tests.audit

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
