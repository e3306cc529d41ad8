#!/bin/bash
# Python's gRPC finds out by reflection what a served peer can do and has.
set -euo pipefail
command=$1 client=$2 site=$(cd "$(dirname "$3")" && pwd) model=$4
ready="$TEST_TMPDIR/ready"
log="$TEST_TMPDIR/log"
mkfifo "$log"
"$command" serve --name shelf --control 127.0.0.1:0 --publish "$model" \
  --ready_file "$ready" 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
exec {lines}<"$log"  # stays open: the server writes to it until its end
until [[ -s "$ready" ]]; do read -ru $lines line; echo "$line"; done
address=$(<"$ready")

output=$(PYTHONPATH="$site" python3 "$client" "$address")
echo "$output"
grep -q "peer 'shelf'" <<<"$output"
grep -q "path unix/basic: cpu -> cpu, usable" <<<"$output"
grep -q "an offer without rules goes over .*unix/basic" <<<"$output"
grep -Eq "bundle 'model' version 1: [1-9][0-9]+ tensors" <<<"$output"

# Nobody there: one sentence and exit code 1, no traceback.
kill $server
wait $server
if PYTHONPATH="$site" python3 "$client" "$address" 2>"$TEST_TMPDIR/err"; then
  exit 1
fi
grep -q UNAVAILABLE "$TEST_TMPDIR/err"
! grep -q Traceback "$TEST_TMPDIR/err"
