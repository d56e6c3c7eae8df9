# make demo       draw the features of a pretrained network
# make test       everything that CI runs                     make test-fast  the fast tests, in about ten minutes
# make lint       ruff, mypy, pyright, import-linter          make docs       the site, into site/
# make coverage   lines and branches without a test           make examples   all examples, with their figures
# make versions   the core's tests on PyTorch 2.4 to the newest: ten minutes
# make oldest     the fast tests on PyTorch 2.4, with the other packages that run with it: ten minutes
# make gpu        tests and benchmark on a CUDA device        make bench      all benchmarks: two to three hours
# make clean      remove the environment

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK = 1

EXAMPLES := $(filter-out _%,$(patsubst examples/%.py,%,$(wildcard examples/*.py)))
# without `summary`, which reads the others' results; what measures time comes last, and alone
BENCHMARKS := correctness coverage guard layouts timm_intermediates graph_breaks robustness versions mutation newcomer \
  peers overhead compiled diagnosis extraction pipeline texts scale backends command explorer soak

.PHONY: demo test test-fast coverage lint docs browser examples versions oldest gpu bench clean

demo: $(READY)
	@$(BIN)/featurelayer demo --out demo.png

test: lint docs browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

test-fast: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q tests -m "not slow and not ray and not browser and not gpu"

coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q tests src --cov --cov-report=term-missing:skip-covered

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

# strict: a link or a reference that leads nowhere is an error
docs: $(READY)
	$(BIN)/zensical build --clean --strict

examples: $(READY)
	for name in $(EXAMPLES); do \
	  $(BIN)/python -m examples.$$name --out $$(ls docs/images/examples/$$name.*) || exit 1; \
	done

# an environment for each version, in .versions; the newest takes what pip finds
versions: $(READY)
	$(BIN)/python -m benchmarks.versions --folder .versions

oldest: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv .versions/oldest
	.versions/oldest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.versions/oldest/bin/python -m pip install --quiet -c tests/oldest.txt --editable ".[all]" --group test
	.versions/oldest/bin/python -m pytest -n 2 --dist loadfile -q tests -m "not slow and not ray and not browser and not gpu"

# on a machine with a CUDA device, with the PyTorch that is there: the core's tests, then the benchmark
gpu:
	PYTHONPATH=src $(PYTHON) -m pytest -q --confcutdir=tests -p no:cacheprovider -p no:benchmark tests/engine tests/test_features.py tests/test_patterns.py
	PYTHONPATH=src $(PYTHON) -m pytest -q --confcutdir=tests -p no:cacheprovider -p no:benchmark tests/extraction/test_cuda.py
	PYTHONPATH=src $(PYTHON) -m benchmarks.gpu

# the tests of the explorer's page drive a real Chromium, Debian's
browser:
	@command -v chromium > /dev/null || (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium) > /dev/null || \
	  (echo "The tests of the page need chromium on the PATH." && false)

bench: $(READY)
	$(BIN)/python -m pip install --quiet --group peers --group mutation
	$(BIN)/python -m pip uninstall --quiet --yes data-science-types  # stubs from a peer that break `make lint`
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.stores --million
	$(BIN)/python -m benchmarks.summary

$(READY): pyproject.toml
	@echo "Making an environment in $(VENV) (PyTorch, the extras and the test tools: a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@
	@echo "Environment ready."

clean:
	rm -rf $(VENV)
