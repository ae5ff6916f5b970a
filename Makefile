# Everything from nothing: each target sets up what it needs and is quick the second time.
PYTHON ?= python3
VENV := .venv

.PHONY: help env demo test lint types format clean

help:
	@echo "make demo    a simulated arm learns to grasp a cup and does it through ROS 2"
	@echo "make test    the tests, with real ROS 2 nodes"
	@echo "make env     the environment $(VENV) alone; then $(VENV)/bin/alt --help"
	@echo "make lint    ruff and pyright"
	@echo "make format  ruff format"
	@echo "make clean   remove build/ and the environment"

env:
	@$(PYTHON) environment/set_up.py

demo: env
	@$(VENV)/bin/alt demo

test: env
	@$(VENV)/bin/pytest

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: env
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf build $(VENV)
