#!/usr/bin/env bash
# Writes requirements.txt and deploy/build-requirements.txt: the versions of constraints.txt that running and building
# need, with the hashes of their files, for pip's --require-hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip install -qq --disable-pip-version-check 'uv>=0.8,<1'

compile() {
  "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --constraints constraints.txt --custom-compile-command scripts/hash_requirements.sh "$@"
}

compile --extra embedded --extra speed --output-file requirements.txt pyproject.toml
echo hatchling | compile --output-file deploy/build-requirements.txt -
