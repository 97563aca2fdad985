#!/usr/bin/env bash
# Generates distributor/v1 from proto/.
#   scripts/generate_proto.sh           writes distributor/v1
#   scripts/generate_proto.sh --check   fails if distributor/v1 is out of date
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH" # protoc finds its plugins on PATH

messages=(proto/distributor/v1/*.proto)
mapfile -t services < <(grep -l '^service ' proto/distributor/v1/*.proto)

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
python -m grpc_tools.protoc -Iproto --python_out="$fresh" --mypy_out="quiet:$fresh" "${messages[@]}"
python -m grpc_tools.protoc -Iproto --grpc_python_out="$fresh" --mypy_grpc_out="quiet:$fresh" "${services[@]}"

if [ "${1:-}" = --check ]; then
  diff --recursive --brief --exclude=__pycache__ "$fresh/distributor/v1" distributor/v1 ||
    { echo "distributor/v1 is out of date: run make proto" >&2; exit 1; }
else
  rm -rf distributor/v1
  cp -r "$fresh/distributor/v1" distributor/v1
fi
