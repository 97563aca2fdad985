#!/usr/bin/env bash
# Creates .venv from pyproject.toml and constraints.txt. Usage: scripts/setup.sh run | dev
#   run  dependencies of `make demo` and `make bench`
#   dev  these and the tools of `make test` and `make check`
# Also fetches the modules of the dashboard page if npm is installed. A stamp makes later calls instant.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  run) extras=embedded,speed ;;
  dev) extras=embedded,speed,dev ;;
  *) echo "usage: scripts/setup.sh run | dev" >&2; exit 2 ;;
esac

fail() { echo "setup: $*" >&2; exit 1; }

scripts/vendor_page.sh

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
    if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; on Debian: apt-get install python3 python3-venv"
}

# Debian's python3 lacks ensurepip, which `python3 -m venv` needs.
provide_venv() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing python3-venv"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3-venv >/dev/null
  fi
  "$1" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$1 cannot create virtual environments; on Debian: apt-get install python3-venv"
}

wanted="$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1) $PWD"
is_done() { [ -x .venv/bin/python ] && [ "$(cat ".venv/installed-$1" 2>/dev/null)" = "$wanted" ]; }

if is_done "$1" || is_done dev; then
  exit 0
fi

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  python=$(find_python)
  provide_venv "$python"
  echo "setup: creating .venv with $("$python" --version)"
  rm -rf .venv
  "$python" -m venv .venv
fi
rm -f .venv/installed-*
echo "setup: installing ($extras)"
.venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]"
echo "$wanted" >".venv/installed-$1"
