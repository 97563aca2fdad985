#!/bin/sh
# The program that the commands of a campaign execute. It notes in a ledger of its own that it starts, runs and ends.
# Usage: witness.sh LEDGER TOKEN TICKS SECONDS_PER_TICK LINES_PER_TICK FLOOD_LINES FAILURES
# With FAILURES it exits so often with code 75, at once, before it does its work.
ledger=$1 token=$2 ticks=$3 seconds=$4 lines=$5 flood=$6 failures=$7 tick=0

note() {
  # The time since boot comes from a file: no process has to be started for it.
  read -r now _ </proc/uptime
  echo "$1 $token $$ $now" >>"$ledger"
}

print_lines() {
  line=0
  while [ "$line" -lt "$lines" ]; do
    line=$((line + 1))
    echo "$token $tick $line"
  done
}

# A shell says of its children that they were terminated.
exec 2>/dev/null
trap 'note stopped; exit 143' TERM
note start
if [ "$failures" -gt 0 ] && [ "$(grep -c "^start $token " "$ledger")" -le "$failures" ]; then
  note failed
  exit 75
fi
print_lines
while [ "$tick" -lt "$ticks" ]; do
  sleep "$seconds"
  tick=$((tick + 1))
  note beat
  print_lines
done
[ "$flood" = 0 ] || seq -f "$token flood %.0f" 1 "$flood"
note end
