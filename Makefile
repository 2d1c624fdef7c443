# Everything from a bare Python: `make compare` runs the main job, `make test` what CI runs.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Without what it requires: that brings a torchvision which breaks transformers' LLaVA. The extra `lmms` has what it needs.
LMMS := lmms-eval==0.7.3

.PHONY: install compare test test-all lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,lmms]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps "$(LMMS)"
	touch $@

compare: install
	$(BIN)/harness compare --methods nsft,dpo --data llava150k

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

# What takes minutes as well: every kill, every dtype, several processes.
test-all: lint
	$(BIN)/pytest -m "heavy or not heavy"

clean:
	rm -rf runs
