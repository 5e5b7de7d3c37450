# make demo: set everything up and run the main job. make test: set everything up and pass the tests.
# Needs Python 3.11 or later with venv, make, and the package registries; nothing else beforehand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINK := .typing/farshore
PACKAGES := schemas streams agents deploy/local
READY := $(VENV)/.ready
# Most of a test is waiting; each process has a broker of its own.
TEST_PROCESSES ?= 2

.PHONY: benchmark benchmark-backlog benchmark-cores benchmark-crayfish benchmark-growth benchmark-guarantee
.PHONY: benchmark-peers benchmark-publish benchmark-stages clean demo fuzz lint lock soak test test-fast test-month
.PHONY: sanitize test-uplink up

demo: $(READY)
	@$(BIN)/farshore demo

up: $(READY)
	@$(BIN)/farshore up

test: lint
	@echo "== tests: unit, integration on the real broker, faults, the built wheel"
	@$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fast: $(READY)
	@$(BIN)/pytest tests/schemas tests/streams tests/agents

# 30 days with outages in some minutes; MONTH_ANOMALIES=10000000 MONTH_SECONDS=3000 RECORD=docs/month for the whole.
MONTH_ANOMALIES ?= 300000
MONTH_SECONDS ?= 300

test-month: $(READY)
	@MONTH_ANOMALIES=$(MONTH_ANOMALIES) MONTH_SECONDS=$(MONTH_SECONDS) MONTH_RECORD=$(RECORD) $(BIN)/pytest -s tests/month

# STORIES: words of the names of those to tell, such as STORIES="busy reconnects"; all of them without.
test-uplink: $(READY)
	@$(BIN)/python -m tests.uplink $(STORIES)

lint: $(READY) $(LINK)
	@echo "== ruff and mypy --strict"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks/*.py benchmarks/rivals/*.py

# The lock has hashes and no URLs; it is made anew with `make lock`.
# The extension is built in place where there is a compiler, and anew when its source changes.
$(READY): requirements/dev.txt pyproject.toml setup.py $(wildcard streams/scoring/_*.[ch])
	@echo "== setting up $(VENV): about 1 minute and 700 MB the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# mypy reads the packages under their import root; an editable install does not show it that root.
$(LINK):
	@mkdir -p $(LINK) && for folder in $(PACKAGES); do ln -sfn ../../$$folder $(LINK)/$${folder##*/}; done

# make soak SECONDS=3600 SEED=7 RECORD=docs/soak; RATE events a second, GUARANTEE at-least-once or exactly-once
SECONDS ?= 600
RATE ?= 1000
GUARANTEE ?= at-least-once

soak: $(READY)
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) --rate $(RATE) --guarantee $(GUARANTEE) \
		$(if $(SEED),--seed $(SEED)) $(if $(RECORD),--record $(RECORD))

EXAMPLES ?= 5000

fuzz: $(READY)
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/streams/scoring/test_fuzz.py --timeout 0

# A copy of the extension, built to stop at any wrong access, under the tests that feed it odd bytes. Needs gcc.
SANITIZED := build/sanitized
SANITIZERS := -fsanitize=address,undefined

sanitize: $(READY) $(LINK)
	@rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)/farshore && cp -r agents schemas streams $(SANITIZED)/farshore
	@cp -r deploy/local $(SANITIZED)/farshore && rm -f $(SANITIZED)/farshore/streams/scoring/*.so
	@gcc -shared -fPIC -std=c11 -g -O1 -Wall -Wextra -Werror $(SANITIZERS) -fno-sanitize-recover \
		-I$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_paths()['include'])") \
		-o $(SANITIZED)/farshore/streams/scoring/_rows.so streams/scoring/_rows.c
	@LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=$(SANITIZED) FUZZ_EXAMPLES=$(EXAMPLES) \
		$(BIN)/python -m pytest --timeout 0 tests/streams/scoring/test_native_reader.py \
		tests/streams/scoring/test_native_numbers.py \
		tests/streams/scoring/test_decoding.py tests/streams/scoring/test_fuzz.py

# Each writes JSON and Markdown to build/benchmarks; benchmark-publish brings them into the documents.
benchmark: $(READY)
	@$(BIN)/python benchmarks/run.py

benchmark-stages: $(READY)
	@$(BIN)/python benchmarks/stages.py

benchmark-cores: $(READY)
	@$(BIN)/python benchmarks/cores.py

benchmark-backlog: $(READY)
	@$(BIN)/python benchmarks/backlog.py

benchmark-growth: $(READY)
	@$(BIN)/python benchmarks/growth.py

benchmark-guarantee: $(READY)
	@$(BIN)/python benchmarks/guarantee.py

benchmark-publish: $(READY)
	@$(BIN)/python benchmarks/publish.py

# PEERS: a copy of an outside harness, set up (see benchmarks/peers.py). MODEL: Crayfish's model-ffnn.onnx.
benchmark-peers: $(READY)
	@$(BIN)/python benchmarks/peers.py "$(PEERS)"

benchmark-crayfish: $(READY)
	@$(BIN)/python benchmarks/crayfish.py "$(MODEL)" $(if $(PEERS),--harness "$(PEERS)")

lock:
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra cloud --extra parquet --extra dev --output-file requirements/dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --output-file requirements/core.txt --constraint requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .typing build dist *.egg-info streams/scoring/*.so
