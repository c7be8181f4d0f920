PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GRADIO := gradio gradio-client hf-gradio groovy safehttpx semantic-version tomlkit python-multipart pydub brotli
RUN := env -u PYTHONPATH OMP_NUM_THREADS=1 $(BIN)

.PHONY: install demo ui test test-system test-slow test-live test-browser check results

install: $(VENV)/installed  ## a virtual environment with the tested versions

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (about two minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps hpsv2 clint args  # its pins: pytest 7.2, protobuf 3
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps $(GRADIO)  # gradio's pin: pillow < 13
	$(BIN)/python -m spin.evaluate.hps_package
	touch $@

demo: install  ## three rounds of self-play in the miniature world
	@$(RUN)/spin-diffusion demo

ui: install  ## a Prefect server, everything registered, and workers; Ctrl-C ends all
	@$(RUN)/spin-diffusion serve

test: install  ## the fast tests, two files at a time
	$(RUN)/python -m pytest -n 2

test-system: install  ## whole runs, kills and several processes; ten minutes
	$(RUN)/python -m pytest -n 2 -m "system and not slow"

test-slow: install  ## minutes each: compile, random kills, live servers, Postgres, outages
	$(RUN)/python -m pytest -m slow

test-live: install  ## a whole run by workers on a live server, with one slot for GPU work; two minutes
	$(RUN)/python -m pytest -m slow tests/live/test_workers.py

test-browser: install  ## the pages of the UI in chromium: a form, a repair, the nightly schedule
	$(RUN)/python -m pytest -m browser tests/browser

check: install  ## style, types, import direction, container files
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec docker/compose.yaml

RECIPES := $(filter $(basename $(notdir $(wildcard configs/compare/*.yaml))),$(shell cat docs/results/order.txt))

results: install  ## every experiment of docs/results.md again: hours; a second call goes on
	for recipe in $(RECIPES); do $(RUN)/spin-diffusion compare $$recipe --keep docs/results || exit; done
	$(RUN)/python -m benchmarks.encoder_trace
	$(RUN)/python -m benchmarks.samplers
	cp runs/baselines/pictures.png docs/baselines.png
	$(RUN)/spin-diffusion results docs/results
