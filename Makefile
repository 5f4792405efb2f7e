# make demo   from nothing to a trained, measured, tracked encoder (laptop profile)
# make test   everything the tests need, then the tests
# make test-long   the tests that take minutes each, which `make test` leaves out
# make audit  known weaknesses of the dependencies (asks api.osv.dev)
# make docs   the documentation as a site, in site/
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# No component of this project phones home.
export DO_NOT_TRACK := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1

.PHONY: setup demo test test-long lint audit docs clean

setup: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mimic needs Python 3.11 or newer; call make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

demo: setup
	dvc repro
	mimic compare

PYTEST := pytest --numprocesses=3 --dist=loadgroup --no-loadscope-reorder

test: setup
	$(PYTEST) -m 'not long'

test-long: setup
	$(PYTEST) -m long

lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	hadolint --config docker/hadolint.yaml docker/Dockerfile docker/*.Dockerfile docker/slurm/Dockerfile
	check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.gpu.yaml
	check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	compose-lint --quiet --skip-suppressed --strict-config --config docker/compose-lint.yaml --fail-on low docker/compose.yaml

audit: setup
	python -m benchmarks.audit

docs: setup
	zensical build --clean --strict

clean:
	rm -rf site data models samples metrics report runs
