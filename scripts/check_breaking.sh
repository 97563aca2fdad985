#!/usr/bin/env bash
# Fails if proto/ breaks compatibility with the latest release. Does nothing before the first release.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=$(git describe --tags --abbrev=0 2>/dev/null) || exit 0
.venv/bin/buf breaking --against ".git#tag=$tag"
