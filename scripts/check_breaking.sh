#!/usr/bin/env bash
# Fails when proto/ breaks what the latest release promised; nothing to do before the first release.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=$(git describe --tags --abbrev=0 2>/dev/null) || exit 0
.venv/bin/buf breaking --against ".git#tag=$tag"
