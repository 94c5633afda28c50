# The Python package: its tests in each interpreter, its types.
#   PYTHONS   interpreters to test with; by default the CPythons from 3.9 on that pyenv has, else python3

PYTHONS ?=

.PHONY: test-python
test-python: stage
	@$(PYTHON) tests/python/run.py $(PYTHONS)

.PHONY: lint-python
lint-python:
	@$(PYTHON) tests/python/lint.py
