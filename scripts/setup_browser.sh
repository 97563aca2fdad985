#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests, with apt-get if run as root.
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing chromium"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends chromium >/dev/null
fi
command -v chromium >/dev/null \
  || { echo "setup: the browser tests need Chromium; on Debian: apt-get install chromium" >&2; exit 1; }
