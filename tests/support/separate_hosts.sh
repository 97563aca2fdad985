#!/bin/sh
# Makes hosts: each has a network and processes of its own, and knows the others by name; they reach only each other.
# Usage: separate_hosts.sh FOLDER NAME...
# The hosts have the addresses 10.9.0.1, 10.9.0.2 and so on. Prints "NAME PID" for each, a process in the namespaces of
# the host, and then "ready". Ends, with all that runs on the hosts, at the end of its standard input.
set -eu
folder=$1
shift

last=0
echo '127.0.0.1 localhost' >"$folder/hosts"
for name in "$@"; do
  last=$((last + 1))
  echo "10.9.0.$last $name" >>"$folder/hosts"
done

# unshare passes over the signals that end others.
holders=
trap 'kill -9 $holders 2>/dev/null || true' EXIT

# Sets `pid` to a process on a new host.
begin() {
  mkfifo "$folder/begun"
  unshare --net --mount --pid --fork --kill-child --mount-proc sh -c \
    'mount --bind "$1/hosts" /etc/hosts; ip link set lo up; echo >"$1/begun"; exec sleep infinity' sh "$folder" >/dev/null &
  holders="$holders $!"
  read -r _ <"$folder/begun"
  rm "$folder/begun"
  pid=$(cat "/proc/$!/task/$!/children")
  pid=${pid%% *}
}

last=0
for name in "$@"; do
  last=$((last + 1))
  begin
  if [ "$last" = 1 ]; then
    switch=$pid
    nsenter --target "$switch" --net ip link add switch type bridge
    nsenter --target "$switch" --net ip link set switch up
    nsenter --target "$pid" --net ip address add "10.9.0.$last/24" dev switch
  else
    nsenter --target "$switch" --net ip link add "port$last" type veth peer name eth0 netns "$pid"
    nsenter --target "$switch" --net ip link set "port$last" master switch up
    nsenter --target "$pid" --net ip address add "10.9.0.$last/24" dev eth0
    nsenter --target "$pid" --net ip link set eth0 up
  fi
  echo "$name $pid"
done
echo ready
cat >/dev/null
