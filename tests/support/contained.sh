#!/bin/sh
# Runs a program as a container does: as USER, without capabilities, on a file system of its own, read-only but for what
# is listed. Runs in a mount namespace (unshare --mount).
# Usage: contained.sh STAGE USER [ro|rw SOURCE TARGET]... -- PROGRAM [ARGUMENT]...
# STAGE is an empty folder. USER is a number, or "" to keep the present one.
set -eu
stage=$1 user=$2
shift 2

bind() {
  if [ -d "$2" ]; then
    mkdir -p "$stage$3"
  else
    mkdir -p "$stage${3%/*}"
    touch "$stage$3"
  fi
  mount --bind "$2" "$stage$3"
  if [ "$1" = ro ]; then
    mount -o remount,bind,ro "$stage$3"
  fi
}

mount -t tmpfs -o mode=755 tmpfs "$stage"
mkdir "$stage/tmp" "$stage/proc"
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs "$stage/tmp"
mount --rbind /proc "$stage/proc"
for folder in /usr /etc /bin /sbin /lib /lib64; do
  if [ -L "$folder" ]; then
    ln -s "$(readlink "$folder")" "$stage$folder"
  elif [ -e "$folder" ]; then
    bind ro "$folder" "$folder"
  fi
done
for device in /dev/null /dev/zero /dev/random /dev/urandom; do
  bind rw "$device" "$device"
done
while [ "$1" != -- ]; do
  bind "$1" "$2" "$3"
  shift 3
done
shift
mount -o remount,bind,ro "$stage"
cd /
exec chroot "$stage" setpriv --no-new-privs --inh-caps=-all --bounding-set=-all \
  ${user:+--reuid="$user" --regid="$user" --clear-groups} -- "$@"
