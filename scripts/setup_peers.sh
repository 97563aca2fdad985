#!/usr/bin/env bash
# Installs the peers that `make bench` compares with: nats-server, BullMQ, and the Python clients of JetStream and
# taskiq.
# Usage: scripts/setup_peers.sh
# Everything goes into build/peers (or the folder that BENCH_PEERS names): a Python environment of its own, npm
# packages, and nats-server unpacked from Debian's package unless one is on PATH. What cannot be installed is named in
# one line, with the remedy, and left out; the script succeeds. Stamps make later calls instant.
set -uo pipefail
cd "$(dirname "$0")/.."

peers=${BENCH_PEERS:-$PWD/build/peers}
bounded="timeout 300"
mkdir -p "$peers" || exit 1

# $1: what is left out; $2: the reason and the remedy.
leave_out() { echo "setup: the benchmark leaves out $1: $2" >&2; }

stamp() { cat "$@" scripts/setup_peers.sh | sha256sum | cut -d' ' -f1; }

python_clients() {
  local wanted log=$peers/pip.log
  wanted=$(stamp bench/peers/requirements.txt)
  [ "$(cat "$peers/venv/.installed" 2>/dev/null)" != "$wanted" ] || return 0
  if [ ! -x .venv/bin/python ]; then
    leave_out "JetStream and taskiq" "there is no .venv; run make env"
    return
  fi
  echo "setup: installing the Python clients of JetStream and taskiq"
  rm -rf "$peers/venv"
  if ! $bounded .venv/bin/python -m venv "$peers/venv" >"$log" 2>&1 ||
    ! $bounded "$peers/venv/bin/python" -m pip install -q --disable-pip-version-check \
      -r bench/peers/requirements.txt >>"$log" 2>&1
  then
    rm -rf "$peers/venv"
    leave_out "JetStream and taskiq" "pip failed, see $log"
    return
  fi
  echo "$wanted" >"$peers/venv/.installed"
}

npm_packages() {
  local wanted log=$peers/npm.log
  wanted=$(stamp bench/peers/bullmq/package-lock.json)
  [ "$(cat "$peers/bullmq/.installed" 2>/dev/null)" != "$wanted" ] || return 0
  if ! command -v npm >/dev/null; then
    leave_out BullMQ "npm is missing; on Debian: apt-get install nodejs npm"
    return
  fi
  echo "setup: installing BullMQ"
  rm -rf "$peers/bullmq"
  mkdir -p "$peers/bullmq"
  cp bench/peers/bullmq/package.json bench/peers/bullmq/package-lock.json "$peers/bullmq"
  if ! (cd "$peers/bullmq" && $bounded npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >"$log" 2>&1); then
    rm -rf "$peers/bullmq"
    leave_out BullMQ "npm failed, see $log"
    return
  fi
  echo "$wanted" >"$peers/bullmq/.installed"
}

# Unpacks the package instead of installing it, as that needs no root and starts no service.
nats_server() {
  local log=$peers/apt.log fresh
  if PATH=$PATH:/usr/sbin command -v nats-server >/dev/null || [ -x "$peers/nats/usr/sbin/nats-server" ]; then
    return 0
  fi
  if ! command -v apt-get >/dev/null; then
    leave_out JetStream "nats-server is missing; put it on PATH"
    return
  fi
  echo "setup: fetching nats-server"
  fresh=$(mktemp -d)
  [ "$(id -u)" -ne 0 ] || $bounded apt-get -qq update >"$log" 2>&1
  if (cd "$fresh" && $bounded apt-get -qq download nats-server >>"$log" 2>&1 \
    && dpkg-deb -x nats-server_*.deb unpacked >>"$log" 2>&1)
  then
    rm -rf "$peers/nats"
    mv "$fresh/unpacked" "$peers/nats"
  else
    leave_out JetStream "apt-get failed, see $log; as root: apt-get install nats-server"
  fi
  rm -rf "$fresh"
}

python_clients
npm_packages
nats_server
