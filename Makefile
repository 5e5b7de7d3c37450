# make demo: set everything up and run the main job. make test: set everything up and pass the tests.
# Needs Python 3.11 or later with venv, make, and the package registries; nothing else beforehand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINK := .typing/farshore
PACKAGES := schemas streams agents deploy/local
READY := $(VENV)/.ready

.PHONY: benchmark clean demo lint lock test test-fast test-uplink up

demo: $(READY)
	@$(BIN)/farshore demo

up: $(READY)
	@$(BIN)/farshore up

test: lint
	@echo "== tests: unit, integration on the real broker, faults, the built wheel"
	@$(BIN)/pytest

test-fast: $(READY)
	@$(BIN)/pytest tests/schemas tests/streams tests/agents

test-uplink: $(READY)
	@$(BIN)/python -m tests.uplink

lint: $(READY) $(LINK)
	@echo "== ruff and mypy --strict"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy

# The lock has hashes and no URLs; it is made anew with `make lock`.
$(READY): requirements/dev.txt pyproject.toml
	@echo "== setting up $(VENV): about 1 minute and 700 MB the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# mypy reads the packages under their import root; an editable install does not show it that root.
$(LINK):
	@mkdir -p $(LINK) && for folder in $(PACKAGES); do ln -sfn ../../$$folder $(LINK)/$${folder##*/}; done

benchmark: $(READY)
	@$(BIN)/python benchmarks/run.py

lock:
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra cloud --extra parquet --extra dev --output-file requirements/dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file requirements/core.txt --constraint requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .typing build dist *.egg-info
