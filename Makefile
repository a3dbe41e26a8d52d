# Everything that these commands create goes below build/; `make clean` removes it.

VENV := build/venv
BIN := $(VENV)/bin
BOOTSTRAP ?=
DATA ?=
OPTIONS ?=
PORT ?= 9092

# Compiled loops are cached here instead of beside the sources. A loop holds the loops of other files that it calls, and
# numba looks only at its own file: each state of all these files, and of the constants that they share, has its own.
LOOPS = cat models/vocabulary.py $$(grep -rl njit models worker --include='*.py' | LC_ALL=C sort) | cksum | cut -d ' ' -f 1
export NUMBA_CACHE_DIR := $(CURDIR)/build/numba/$(shell cd '$(CURDIR)' && $(LOOPS))
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/hypothesis
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv warm lint format unit test demo picture kafka bench quality quality-baselines faults image-check lock schemas clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-17s %s\n", $$1, $$2 }'

# The first Python that is new enough and can create a virtual environment; PYTHON=... comes before the others.
FIND_PYTHON = for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
		then echo $$python; exit; fi; \
	done; \
	echo 'Python 3.11, 3.12 or 3.13 with its venv module is needed (Debian, Ubuntu: apt-get install python3-venv)' >&2; \
	exit 1

venv: $(VENV)/.installed  ## Install the pinned dependencies and the project into build/venv

$(VENV)/.installed: deploy/requirements-dev.txt pyproject.toml
	@rm -rf $(VENV)
	@python=$$($(FIND_PYTHON)) && echo "$$python -m venv $(VENV)" && $$python -m venv $(VENV)
	@echo 'Installing the pinned dependencies into $(VENV), this first time only: a minute or two'
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r deploy/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

warm: venv  ## Compile the loops: otherwise the first test or command that needs one does
	$(BIN)/python -m worker.warm

lint: venv  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir build/import-linter

format: venv  ## Format the sources, and repair what the linter can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: venv  ## Run the unit tests, on every processor and without a broker: within a minute
	$(BIN)/python -m pytest --numprocesses auto tests/unit $(OPTIONS)

# A file of tests stays in one process, and each process has a broker of its own. In the order of the folders, so that
# the tests of the whole worker, which take the longest, begin first.
test: lint  ## Check style and types, then run every test but the long fault runs; OPTIONS='-x' goes to pytest
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(OPTIONS)

DEMO = $(BIN)/fraud-worker demo $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP)) $(if $(DURATION),--duration $(DURATION))

demo: venv  ## Show a worker on simulated traffic; BOOTSTRAP=host:port uses your own Kafka, DURATION=60 is shorter
	$(DEMO)

picture: venv  ## Save the demo's page into deploy/pictures/demo.svg; BOOTSTRAP and DURATION as for demo
	@mkdir -p deploy/pictures
	$(DEMO) --picture deploy/pictures/demo.svg

kafka: venv  ## Run a Kafka broker in the foreground, at PORT=9092; DATA=folder keeps its data
	$(BIN)/fraud-worker kafka --port $(PORT) $(if $(DATA),--data-dir '$(DATA)')

bench: venv  ## Measure throughput and latency into build/bench.json; OPTIONS='--transactions 5000' is a trial
	$(BIN)/python -m tests.tools.bench $(OPTIONS)

quality: venv  ## Judge the worker on many streams beside the baselines, into build/quality.md; OPTIONS='--only handbook'
	$(BIN)/python -m tests.tools.quality $(OPTIONS)

quality-baselines: venv  ## Make the baselines of `quality` that build/quality-cache lacks: hours, and it may be stopped
	$(BIN)/python -m tests.tools.quality baselines $(OPTIONS)

faults: venv  ## Run the fault tests: kills, cuts and stalls, minutes long
	$(BIN)/python -m pytest -m faults $(OPTIONS)

image-check: venv  ## Build deploy/Dockerfile in folders, without an engine; needs root and debootstrap
	$(BIN)/python -m tests.tools.image

# Pins for Python 3.11 to 3.13 on every platform, with hashes and without the address they came from.
COMPILE = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-annotate --no-emit-index-url --custom-compile-command 'make lock' $(UPGRADE)

lock:  ## Pin the dependencies of pyproject.toml in deploy/; UPGRADE=--upgrade takes newer ones
	@python=$$($(FIND_PYTHON)) && $$python -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'
	$(COMPILE) pyproject.toml --output-file deploy/requirements.txt
	$(COMPILE) pyproject.toml --extra bench --extra dev --constraint deploy/requirements.txt \
		--output-file deploy/requirements-dev.txt
	$(COMPILE) pyproject.toml --extra quality --constraint deploy/requirements-dev.txt \
		--output-file deploy/requirements-quality.txt
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml \
		| $(COMPILE) - --constraint deploy/requirements-dev.txt --output-file deploy/requirements-build.txt

schemas: venv  ## Write the JSON Schemas and the AsyncAPI document of the topics into deploy/schemas
	$(BIN)/fraud-worker schema export --dir deploy/schemas

clean:  ## Remove everything that these commands created (Kafka's jars stay in ~/.cache/fraud-worker)
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find models worker tests -name __pycache__ -type d -prune -exec rm -rf {} +
