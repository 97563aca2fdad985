#!/usr/bin/env bash
# Writes build/sbom.cdx.json: what an installation consists of, in CycloneDX, from an environment with requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$PWD/.venv/bin/python
"$python" -m venv "$folder/installed"
"$folder/installed/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.txt
"$python" -m venv "$folder/tool"
"$folder/tool/bin/python" -m pip install -qq --disable-pip-version-check 'cyclonedx-bom>=7,<8'
mkdir -p build
"$folder/tool/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --of JSON \
  --output-file build/sbom.cdx.json "$folder/installed/bin/python"
echo "sbom: build/sbom.cdx.json"
