.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.installed-dev
DOCS := .venv-docs
DOCS_READY := $(DOCS)/.installed
CODE := core labelstudio_backend napari_plugin tests recipes benchmarks examples docs
DATA ?= data/bbbc038
RUNS ?= runs

.PHONY: help demo test test-slow lint format docs docs-serve nuclei microscopy clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(READY): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(INSTALLED)

demo: $(INSTALLED) ## Segment bundled microscopy images, offline, into demo_output/
	$(BIN)/samlet demo --out demo_output

test: $(READY) ## Run the tests, also with a real Label Studio, browser and napari
	tests/install-system-packages
	$(BIN)/python -m tests.labelstudio.label_studio --install
	$(BIN)/python -m tests.run_all

test-slow: $(READY) ## Run the tests that take minutes or much memory, which `make test` leaves out
	tests/install-system-packages
	$(BIN)/python -m tests.labelstudio.label_studio --install
	$(BIN)/python -m tests.run_all -m slow

lint: $(READY) ## Check style, types, the import contract and the workflows of .github
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bf]*.yml

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# The site is built from the sources, so it needs neither PyTorch nor the other extras. It has an
# environment of its own because label-studio-ml pins a Jinja2 that MkDocs cannot use.
$(DOCS_READY): pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(DOCS)/bin/python -m pip install --quiet --group docs
	touch $@

docs: $(DOCS_READY) ## Build the documentation site in site/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

docs-serve: $(DOCS_READY) ## Serve the documentation site while you edit it
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve

nuclei: $(READY) ## Train the model for nuclei from DATA=data/bbbc038 (hours; resumes)
	$(BIN)/python recipes/nuclei.py teacher $(DATA) $(RUNS)/teacher
	$(BIN)/python recipes/nuclei.py student $(DATA) $(RUNS)/student --teacher $(RUNS)/teacher/model.safetensors
	$(BIN)/python recipes/nuclei.py finetune $(DATA) $(RUNS)/finetune --student $(RUNS)/student/model.safetensors
	$(BIN)/python recipes/nuclei.py native $(DATA) $(RUNS)/native --finetuned $(RUNS)/finetune/model.safetensors
	$(BIN)/python recipes/nuclei.py detail $(DATA) $(RUNS)/detail --native $(RUNS)/native/model.safetensors
	$(BIN)/python recipes/nuclei.py zoom $(DATA) $(RUNS)/zoom --detail $(RUNS)/detail/model.safetensors
	$(BIN)/python recipes/nuclei.py deepen $(DATA) $(RUNS)/deepen --zoom $(RUNS)/zoom/model.safetensors
	$(BIN)/python recipes/nuclei.py proposals $(DATA) $(RUNS)/proposals --deepen $(RUNS)/deepen/model.safetensors
	$(BIN)/python recipes/nuclei.py measure $(DATA) $(RUNS)/teacher $(RUNS)/student $(RUNS)/proposals
	$(BIN)/python recipes/nuclei.py bundle $(RUNS)

microscopy: $(READY) ## Train the bundled model again from DATA=data and RUNS/nuclei.safetensors (hours; resumes)
	test -d $(DATA)/sprites || $(BIN)/python -m recipes.scenes.sprites $(DATA)/sprites
	$(BIN)/python -m recipes.microscopy train $(RUNS)/nuclei.safetensors kinds $(DATA) $(RUNS)/kinds
	$(BIN)/python -m recipes.microscopy train $(RUNS)/kinds general $(DATA) $(RUNS)/general
	$(BIN)/python -m recipes.microscopy train $(RUNS)/general dense $(DATA) $(RUNS)/dense
	$(BIN)/python -m recipes.microscopy average $(RUNS) average
	$(BIN)/python -m recipes.microscopy train $(RUNS)/average long $(DATA) $(RUNS)/long
	$(BIN)/python -m recipes.microscopy average $(RUNS) second-average
	$(BIN)/python -m recipes.microscopy train $(RUNS)/second-average head $(DATA) $(RUNS)/head
	$(BIN)/python -m recipes.microscopy measure $(DATA) $(RUNS)/head
	$(BIN)/python -m recipes.microscopy bundle $(RUNS)

clean: ## Remove what was made, the environment too
	rm -rf $(VENV) $(DOCS) .venv-label-studio demo_output build dist site
