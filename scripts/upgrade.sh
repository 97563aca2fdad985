#!/usr/bin/env bash
# Updates constraints.txt, and requirements.txt with hashes, to the latest versions that pyproject.toml permits.
# Run make check and make test afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
.venv/bin/python -m venv "$fresh"
"$fresh/bin/python" -m pip install -qq --disable-pip-version-check --editable '.[embedded,speed,dev]'
{
  head -n 1 constraints.txt
  "$fresh/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable
} >"$fresh/constraints.txt"
mv "$fresh/constraints.txt" constraints.txt
scripts/hash_requirements.sh
