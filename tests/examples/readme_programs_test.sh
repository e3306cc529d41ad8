#!/bin/bash
# The README's two programs: what one sends the other receives.
set -euo pipefail
receiver=$PWD/$1 sender=$PWD/$2
cd "$TEST_TMPDIR"
mkfifo log
"$receiver" 2>log &
receiving=$!
trap 'kill $receiving 2>/dev/null || true' EXIT
exec {lines}<log
until sent=$("$sender" 2>&1); do
  echo "$sent"
  kill -0 $receiving  # is not ready yet
done
echo "$sent"
grep -qx OK <<<"$sent"
until [[ "${line-}" == "weights came" ]]; do
  read -ru $lines line
  echo "$line"
done
