# `make demo` and `make test` do all the set-up themselves; they need python3.11 (or newer), pip and make.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV ?= .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What the caller's shell has set for another Python must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# Processes that the tests are spread over: one a core. `make test JOBS=0` runs them in one, as a debugger needs.
JOBS ?= logical

# Not for a build that has no network: Material for MkDocs announces its successor.
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test test-slow test-browser test-all lint docs lock micro clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(RUN)/act2see demo

PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist loadscope

# All but the tests that are marked slow: trainings, killed processes, the wheel, a cluster, whole evaluations by the embedded model.
test: $(STAMP)
	$(PYTEST) -m "not slow and not browser"

# Those alone. Only the files that hold one are imported.
test-slow: $(STAMP)
	$(PYTEST) -m slow $$(grep -rl --include='test_*.py' 'pytest\.mark\.slow' tests)

# In Chromium: pages used by mouse and keyboard, and looked over by axe-core. CHROMIUM names another one.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
test-browser: $(STAMP)
	@$(RUN)/python -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ("axe_playwright_python", "gradio", "playwright"))))' || \
		{ echo "make test-browser needs playwright and gradio: $(RUN)/pip install -e '.[browser,ui]'" >&2; exit 1; }
	@test -n "$(CHROMIUM)" || { echo "make test-browser needs Chromium: apt install chromium, or make test-browser CHROMIUM=/path/to/chromium" >&2; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(RUN)/python -m pytest -m browser tests/browser

test-all: test test-slow

lint: $(STAMP)
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/mkdocs build --quiet --strict

# The documentation as a site, in site/.
docs: $(STAMP)
	$(RUN)/mkdocs build --strict

# The lock anew; versions that pyproject.toml still allows stay. All of them newer: make lock UPGRADE=--upgrade. One package: UPGRADE='-P av'.
lock:
	UPGRADE="$(UPGRADE)" PYTHON="$(PYTHON)" scripts/lock.sh

# The embedded models from nothing, into runs/micro; going on where an interrupted call stopped.
micro: export OMP_NUM_THREADS = 1
micro: $(STAMP)
	$(RUN)/act2see train micro-retriever --out runs/micro/retriever --steps 4000
	$(RUN)/torchrun --nproc-per-node 2 -m act2see train recipes/micro.toml --out runs/micro/vlm --resume
	$(RUN)/act2see train micro-generator --out runs/micro/codec --part codec --steps 900 --learning-rate 3.0e-3
	$(RUN)/act2see train micro-generator --out runs/micro/generator --part edits --start-from runs/micro/codec/model --steps 12000 --learning-rate 1.5e-3

# torch comes first and by its exact version, so that no other package brings in a larger build of it; it is not in the lock, because which build
# fits depends on the machine. The environment is made without pip and pip put into it from outside: a Debian without python3.11-venv has no ensurepip.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "act2see needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "act2see needs pip to install itself: apt install python3-pip" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(RUN)/python install --quiet pip
	$(RUN)/python -m pip install --quiet torch==2.13.0
	$(RUN)/python -m pip install --quiet --no-compile --require-hashes --no-deps -r requirements.lock
	$(RUN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(RUN)/python -m pip check
	touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
