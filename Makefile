# What can be done with this project; `make` lists it. Everything is installed into .venv and nowhere else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG := $(wildcard config.toml)
LOCKED := $(BIN)/python locks/install.py
# The text engine compiles its kernels for processors with AVX-512; where there is no compiler, one comes as a package.
EXTRA := $(shell command -v c++ g++ clang++ >/dev/null || ! grep -qs avx512_vnni /proc/cpuinfo || echo compiler)

.DEFAULT_GOAL := help
.PHONY: help serve install dev test test-slow test-gpu conformance check image-lint unit-lint audit fuzz bench lock sbom release clean
SECONDS ?= 60

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | while IFS='|' read -r name what; do \
		printf '  make %-12s %s\n' "$$name" "$$what"; done

serve: install ## Install what is missing, fetch the models and serve them on 127.0.0.1:8000 (PORT=... for another port)
	@$(BIN)/openai-compat serve $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

install: $(VENV)/.installed ## Install the server into .venv

dev: $(VENV)/.installed-dev ## Install what tests and checks need, too

test: dev ## Run the tests, on two processors
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-slow: dev ## Run the tests that take longer than ten seconds
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(ARGS)

test-gpu: dev ## Check the text engine on a GPU, and say how its speed is measured
	HF_HUB_OFFLINE=1 $(BIN)/pytest tests/handlers/decoding/test_cuda.py tests/handlers/decoding/test_fake_cuda.py $(ARGS)
	@$(BIN)/python benchmarks/gpu_decode.py --help

conformance: ## Check a server with many clients: BASE_URL=http://host:port/v1 [API_KEY= MODEL= EMBEDDING_MODEL= NAME=]
	@$(PYTHON) tests/compat/suite/run.py --base-url "$(BASE_URL)" $(if $(API_KEY),--api-key "$(API_KEY)") \
		$(if $(MODEL),--model "$(MODEL)") $(if $(EMBEDDING_MODEL),--embedding-model "$(EMBEDDING_MODEL)") \
		$(if $(NAME),--name "$(NAME)") $(ARGS)

check: dev image-lint unit-lint audit ## Check style, types, the Dockerfile, the systemd unit and known weaknesses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

image-lint: dev ## Check the Dockerfile
	$(BIN)/hadolint Dockerfile

unit-lint: ## Check the systemd unit, where systemd is installed
	@if command -v systemd-analyze >/dev/null; then \
		echo "systemd-analyze verify deploy/openai-compat.service"; \
		copy=$$(mktemp -d)/openai-compat.service; \
		sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' deploy/openai-compat.service > "$$copy"; \
		systemd-analyze verify --man=no "$$copy"; \
	else echo "no systemd here: the unit is not checked"; fi

audit: $(VENV)/.installed-release ## Ask for known weaknesses of what the lock names, where a service can be reached
	@$(BIN)/python locks/audit.py

fuzz: dev $(VENV)/.installed-fuzz ## Fuzz every reader of strangers' bytes for SECONDS=60 each, then the API by its document
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(ARGS)

lock: $(VENV)/.installed-release ## Write the lock and constraints.txt from pyproject.toml (UPGRADE=1 for newer versions)
	$(BIN)/python locks/refresh.py $(if $(UPGRADE),--upgrade)

sbom: $(VENV)/.installed-release ## Write what the server is made of to dist/, as CycloneDX
	@mkdir -p dist
	@cat locks/server.txt locks/torch.txt | grep -v '^--' > dist/.parts.txt
	$(BIN)/cyclonedx-py requirements dist/.parts.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --of JSON -o dist/openai-compat.cdx.json
	@rm dist/.parts.txt

release: clean-dist sbom ## Build the wheel, the source archive and the SBOM into dist/, with their sha256
	$(BIN)/python -m build --no-isolation --outdir dist .
	cd dist && sha256sum -- *.whl *.tar.gz *.json | tee SHA256SUMS

.PHONY: clean-dist
clean-dist:
	rm -rf dist build

bench: dev ## Run the benchmarks
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

clean: ## Remove what was installed and built here
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with 'make PYTHON=python3.x ...'"; exit 1; }
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(wildcard locks/*.txt) | $(BIN)/python
	@echo "Installing the server and what it needs into $(VENV): some minutes the first time"
	@$(LOCKED) --editable $(EXTRA)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing what is needed for: $*"
	@$(LOCKED) --only $*
	@touch $@
