#!/bin/bash
# Python's gRPC finds out by reflection what a served peer can do and has.
set -euo pipefail
command=$1 client=$2 site=$(cd "$(dirname "$3")" && pwd) model=$4
ready="$TEST_TMPDIR/ready"
"$command" serve --name shelf --control 127.0.0.1:0 --publish "$model" \
  --ready_file "$ready" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
until [[ -s "$ready" ]]; do kill -0 $server; read -rt 0.1 <> <(:) || true; done

output=$(PYTHONPATH="$site" python3 "$client" "$(<"$ready")")
echo "$output"
grep -q "peer 'shelf'" <<<"$output"
grep -q "path uv/basic: cpu -> cpu, usable" <<<"$output"
grep -q "an offer without rules goes over .*uv/basic" <<<"$output"
grep -Eq "bundle 'model' version 1: [1-9][0-9]+ tensors" <<<"$output"

# Nobody there: one sentence and exit code 1, no traceback.
kill $server
wait $server
if PYTHONPATH="$site" python3 "$client" "$(<"$ready")" 2>"$TEST_TMPDIR/err"; then
  exit 1
fi
grep -q UNAVAILABLE "$TEST_TMPDIR/err"
! grep -q Traceback "$TEST_TMPDIR/err"
