#!/usr/bin/env bash
# All of CI in one command, in the environment that is active: tests, linter, formatting.
set -euo pipefail
cd "$(dirname "$0")/.."
pytest
ruff check .
ruff format --check .
