# Every target sets up what it needs in .venv; nothing is installed outside it but the Debian
# packages named below, and those only where apt-get may be run without asking for a password.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SYSTEM_PACKAGES := libportaudio2 jackd2 pulseaudio libasound2-plugins liblo-tools puredata-core \
	supercollider-language fluidsynth

.PHONY: demo test check bench system clean help

help:
	@echo "make demo   set up, then play the bundled performance through the live engine"
	@echo "make test   set up, then run the tests"
	@echo "make check  style, types and tests"
	@echo "make bench  measure throughput on this machine (umt bench)"

demo: $(VENV)/core.stamp
	$(BIN)/umt demo --out demo-out

# First what may share the machine, a file to each worker, then what may not.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not alone' && \
	$(BIN)/python -m pytest -m alone

test: $(VENV)/test.stamp system
	$(PYTEST)

check: $(VENV)/test.stamp system
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

bench: $(VENV)/core.stamp
	$(BIN)/umt bench decode --json benchmarks/results/decode.json
	$(BIN)/umt bench encode --json benchmarks/results/encode.json
	$(BIN)/umt bench chain --json benchmarks/results/chain.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "umt needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || \
	  { $(call apt,python3-venv) && $(PYTHON) -m venv --clear $(VENV); } || { rm -rf $(VENV); \
	    echo "could not make $(VENV): install venv for $(PYTHON) (Debian: python3-venv)"; exit 1; }

$(VENV)/core.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing umt-live and the packages it plays with (no torch)"
	$(PIP) --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing umt-live with training and test packages (torch among them)"
	$(PIP) --editable '.[train,gpu,export,cluster,midi,test]'
	@touch $@ $(VENV)/core.stamp

# Tests that need one of these skip by name where it cannot be installed.
system:
	@missing=$$(for p in $(SYSTEM_PACKAGES); do \
	    dpkg -s $$p 2>/dev/null | grep -q '^Status: install ok' || printf '%s ' $$p; done); \
	if [ -n "$$missing" ]; then $(call apt,$$missing) || \
	    echo "not installed: $${refused:-$$missing}- the tests that need them will be skipped by name"; fi

# One by one, and never in the place of another: pipewire-alsa, say, and pulseaudio cannot both be
# there, and nobody's sound must go for a test's.
apt = { command -v apt-get >/dev/null && \
	{ [ "$$(id -u)" = 0 ] && run= || { command -v sudo >/dev/null && sudo -n true && run=sudo; }; } && \
	echo "installing Debian packages: $(1)" && $$run apt-get update -qq && refused= && \
	for p in $(1); do $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends --no-remove $$p >/dev/null || refused="$$refused$$p "; done && \
	[ -z "$$refused" ]; }

clean:
	rm -rf $(VENV) build *.egg-info demo-out
