#!/usr/bin/env bash
# Provides the Chromium that the browser tests drive: Debian's own, by apt-get where we may.
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing chromium"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends chromium >/dev/null
fi
command -v chromium >/dev/null || { echo "setup: the browser tests need Chromium; on Debian: apt-get install chromium" >&2; exit 1; }
