# make demo   see inside a pretrained network      make test   the tests, as CI runs them
# make bench  the benchmarks                       make clean  remove the environment

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint browser bench clean

demo: $(READY)
	@$(BIN)/featurelayer demo --out demo.png

test: lint browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the tests of the explorer's page drive a real Chromium, Debian's
browser:
	@command -v chromium > /dev/null || (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium) > /dev/null || \
	  (echo "The tests of the page need chromium on the PATH." && false)

bench: $(READY)
	$(BIN)/python -m benchmarks.correctness
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.command
	$(BIN)/python -m benchmarks.compiled
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.timm_intermediates
	$(BIN)/python -m benchmarks.graph_breaks
	$(BIN)/python -m benchmarks.stores --million
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.explorer
	$(BIN)/python -m pip install --quiet --group peers
	$(BIN)/python -m benchmarks.peers

$(READY): pyproject.toml
	@echo "Making an environment in $(VENV) (PyTorch, the extras and the test tools: a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@
	@echo "Environment ready."

clean:
	rm -rf $(VENV)
