# `make demo`, `make test` and `make results` set up .venv the first time and reuse it afterwards.

PYTHON ?= python3
BIN := .venv/bin
# Many an image sets it. Then every start of Python compiles what it imports again: 1.5 s more with PyTorch.
export PYTHONDONTWRITEBYTECODE :=
NEEDS := import sys; sys.exit(sys.version_info < (3, 11) and "constraints.txt needs Python 3.11: make PYTHON=python3.11")

.PHONY: demo docs test kernels lint format results clean

demo: .venv/.installed
	$(BIN)/slicesplat demo --output demo

# Two at a time, half of the modules each: the kernels of each run in several threads themselves. Whoever is done first
# takes of what the other has left. Kernels are compiled once for all, beside the checks.
test: .venv/.installed
	$(MAKE) --jobs 2 lint kernels
	$(BIN)/pytest --numprocesses 2 --dist worksteal

kernels: .venv/.installed
	$(BIN)/slicesplat compile

# The site, in site/: open site/index.html.
docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Hours; begins again where it was ended.
results: .venv/.installed
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf demo site build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Of 200 MB of modules few are ever imported: each is compiled when it is.
.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || { $(PYTHON) -c '$(NEEDS)' && $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,docs]'
	touch $@
