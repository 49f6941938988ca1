# Two commands for everybody: `make tag FILE=song.mp3` and `make test`. The rest is for those who work on the package.

FILE ?=
TESTS ?=
MODEL ?= musicnn
WEIGHTS ?= mtat
# The first Python that TensorFlow has packages for.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)

EXPERIMENTS := joint_scattering harmonic_filters whole_songs front_ends frequency_dependent presets
NEWEST := .venv
OLDEST := .venv-oldest
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: tag test test-oldest test-full notebooks experiments experiments-smoke lint format bench clean

tag: $(NEWEST)/installed
	@TF_CPP_MIN_LOG_LEVEL=3 $(NEWEST)/bin/tfmusictag tag --format text --model "$(MODEL)" --weights "$(WEIGHTS)" \
		$(if $(FILE),-- "$(FILE)",--demo)

test: $(NEWEST)/tests-installed
	$(NEWEST)/bin/python -m pytest -n auto -m "not full" $(TESTS)

# Without what takes long: a training of every model, exports of its variants, processes that are killed twenty times,
# and some of what this package does by itself, on every stack alike.
test-oldest: $(OLDEST)/tests-installed
	$(OLDEST)/bin/python -m pytest -n auto $(TESTS)

# Exports at full size: minutes of work and gigabytes of memory, so apart from the rest.
test-full: $(NEWEST)/tests-installed
	$(NEWEST)/bin/python -m pytest -m full $(TESTS)

# Each from top to bottom, in less than three minutes.
notebooks: $(NEWEST)/tests-installed
	$(NEWEST)/bin/python notebooks/run.py

# Hours; what has run is not run again, so that it goes on after a kill.
experiments: $(NEWEST)/tests-installed
	for script in $(EXPERIMENTS); do $(NEWEST)/bin/python experiments/$$script.py || exit 1; done

# Every script of them on a hundred clips, a few cases each.
experiments-smoke: $(NEWEST)/tests-installed
	for script in $(EXPERIMENTS); do $(NEWEST)/bin/python experiments/$$script.py --smoke || exit 1; done

lint: $(NEWEST)/tests-installed
	$(NEWEST)/bin/ruff check . && $(NEWEST)/bin/ruff format --check .

format: $(NEWEST)/tests-installed
	$(NEWEST)/bin/ruff check --fix . && $(NEWEST)/bin/ruff format .

bench: $(NEWEST)/tests-installed
	$(NEWEST)/bin/python benchmarks/tagging.py $(if $(FILE),--clip "$(FILE)")

clean:
	rm -rf $(NEWEST) $(OLDEST) build dist *.egg-info .cache

# Debian ships Python without ensurepip, so without `venv` in full; a pip outside can then fill the environment.
%/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed and was not found; PYTHON=/path/to/python3.11 names one." >&2; exit 1; }
	@$(PYTHON) -m venv $* 2>/dev/null \
		|| { rm -rf $* && $(PYTHON) -m venv --without-pip $* && $(PYTHON) -m pip --python $@ install --quiet pip; } \
		|| { rm -rf $*; echo "$(PYTHON) can make no environment: install python3-venv, or pip for it." >&2; exit 1; }
	@touch $@

$(NEWEST)/installed: setup.cfg constraints/newest.txt | $(NEWEST)/bin/python
	@echo "installing tfmusictag into $(NEWEST), once" >&2
	@$(NEWEST)/bin/python $(PIP) -c constraints/newest.txt -e '.[plot]'
	@touch $@

# MediaPipe is the phone's own runtime; it wants NumPy 2, so it is no part of the extra `test`. PyTorch runs the peers'
# own networks beside ours; the oldest stack is tested without it.
$(NEWEST)/tests-installed: setup.cfg constraints/newest.txt | $(NEWEST)/bin/python
	$(NEWEST)/bin/python $(PIP) -c constraints/newest.txt -e '.[dev,torch,beam,build,render]' mediapipe
	@touch $@ $(NEWEST)/installed

$(OLDEST)/tests-installed: setup.cfg constraints/oldest.txt | $(OLDEST)/bin/python
	$(OLDEST)/bin/python $(PIP) -c constraints/oldest.txt -e '.[test,io,render]'
	@touch $@
