# make table1   the paper's Table 1 on digits, from nothing
# make test     the tests
# make check    lint, format, types
PYTHON ?= python3
ENV := .venv
RUN := $(ENV)/bin/python

.PHONY: table1 test check clean
.DEFAULT_GOAL := table1

table1: $(ENV)/installed
	$(RUN) -m benchmark.sweep table1

test: $(ENV)/installed
	$(RUN) -m pytest

check: $(ENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# torch and torchvision come together, in the versions that were built for each other.
$(ENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(ENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(ENV) results/runs
