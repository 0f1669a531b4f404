#!/usr/bin/env bash
# What CI does, in the environment that is active (pip install -e '.[test,docs]'); `without-tests` leaves the quick tests out.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export TF_CPP_MIN_LOG_LEVEL=2
[ "${1:-}" = without-tests ] || pytest

# The notebooks run, to the outputs that they are stored with.
pytest -m slow tests/docs/test_notebooks.py

# Documentation.
python -m sphinx -q -W --keep-going -n -b html -c docs . "$out"

# Types.
mypy

# Linter and formatter.
ruff check .
ruff format --check .
