# Every target sets up what it needs: .venv is made once, under the tried versions of constraints.txt.
# `make VENV=path test` uses an environment that is already there and installs nothing.
VENV   ?= .venv
PYTHON ?= python3
RUN     = runs/demo

# Idle threads sleep instead of spinning: with another process on the machine a step is 5x faster.
export OMP_WAIT_POLICY := PASSIVE
# Kernels and subprocesses see this checkout, whichever environment runs them.
export PYTHONPATH := $(CURDIR)

PY       := $(VENV)/bin/python
# Only the default .venv is ours to fill.
READY    := $(if $(filter file,$(origin VENV)),$(VENV)/.installed)
INSTCOMP := $(if $(READY),$(VENV)/bin/instcomp,$(PY) -c 'from instcomp.cli import main; main()')
NOTEBOOKS = $(sort $(wildcard nbs/*.ipynb nbs/*/*.ipynb))

FUZZ    ?= 100000

.PHONY: help demo test lab docs bench lint fuzz browser
help:                ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

demo: $(READY)       ## train a small model for four minutes, enlarge photographs it never saw
	$(INSTCOMP) train image-local-tiny --data photos --out $(RUN) --resume
	$(INSTCOMP) eval $(RUN) --pictures

test: lint           ## style, tests, every notebook from top to bottom (20 minutes on two cores)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests -n 2 --dist loadfile --durations=10 -q
	$(if $(NOTEBOOKS),OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env \
	  --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout=300 --nbval-kernel-startup-timeout=120 --durations=10 -q $(NOTEBOOKS))

lab: $(READY)        ## open the course in JupyterLab
	$(PY) -m jupyter lab nbs

docs: $(READY)       ## build the site into docs/_build/html
	$(PY) docs/build.py

bench: $(READY)      ## speed beside the processor's limit, into benchmarks/README.md; NAMES=… chooses, NAMES=--list lists
	$(PY) benchmarks/bench.py $(NAMES)

fuzz: $(READY)       ## hours: FUZZ=100000 broken inputs of every kind, figures into benchmarks/claims/trust.json
	$(PY) tests/fuzz/harness.py all $(FUZZ)

browser: $(READY)    ## pages and three notebooks in Chromium (set CHROMIUM, or have one of Debian's or playwright's)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/browser -m 'slow or not slow' --durations=10 -q

lint: $(READY)       ## ruff on library, notebooks and tests
	$(PY) -m ruff check .

# The stamp says that $(VENV) holds what settings.ini asks for, as constraints.txt pins it.
$(VENV)/.installed: settings.ini constraints.txt
	@python=$$(for p in $(PYTHON) python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done); \
	test -n "$$python" || { echo 'instcomp needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3'; exit 1; }; \
	echo "installing into $(VENV) with $$python (once; about 5 GB)"; \
	$$python -m venv $(VENV) || { echo 'the venv module is missing: on Debian and Ubuntu, apt install python3-venv'; exit 1; }
	$(PY) -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks]'
	@touch $@
