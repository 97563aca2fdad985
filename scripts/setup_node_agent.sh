#!/usr/bin/env bash
# Installs the npm packages of examples/node-agent into build/node-agent, for the conformance tests.
# Installs Node with apt-get if it is missing and this runs as root. A stamp makes later calls instant.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "setup: $*" >&2; exit 1; }

source=examples/node-agent
target=build/node-agent
wanted=$(cat "$source/package-lock.json" scripts/setup_node_agent.sh | sha256sum | cut -d' ' -f1)
mkdir -p build
# Tests in several processes may get here at once.
exec 9>build/node-agent.lock
flock 9
if [ "$(cat "$target/.installed" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

is_new_enough() { node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null; }

if ! command -v npm >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing nodejs and npm"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends nodejs npm >/dev/null
fi
command -v npm >/dev/null || fail "the conformance tests need Node 20 and npm; on Debian: apt-get install nodejs npm"
is_new_enough || fail "the conformance tests need Node 20 or newer, not $(node --version)"

echo "setup: installing the packages of the agent in Node"
rm -rf "$target"
mkdir -p "$target"
cp "$source/package.json" "$source/package-lock.json" "$target"
(cd "$target" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >npm.log 2>&1) ||
  fail "npm failed: $(cat "$target/npm.log")"
echo "$wanted" >"$target/.installed"
