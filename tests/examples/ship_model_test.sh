#!/bin/bash
# The real model crosses between two processes and is the same byte for byte;
# a model that is not one fails.
set -euo pipefail
out="$TEST_TMPDIR/pulled.safetensors"
"$1" --model "$2" --out "$out" 2>&1 | tee "$TEST_TMPDIR/log"
cmp "$2" "$out"
grep -q "identical" "$TEST_TMPDIR/log"

# A relative path is the user's, not that of the folder `bazel run` starts it in.
mkdir "$TEST_TMPDIR/work"
BUILD_WORKING_DIRECTORY="$TEST_TMPDIR/work" "$1" --model "$2" --out relative
cmp "$2" "$TEST_TMPDIR/work/relative"

# Stopped before its server even could: nothing stays, exit code not 0.
mkfifo "$TEST_TMPDIR/lines"
mkdir "$TEST_TMPDIR/tmp"
TMPDIR="$TEST_TMPDIR/tmp" "$1" --model "$2" >"$TEST_TMPDIR/lines" 2>&1 &
shipping=$!
exec {lines}<"$TEST_TMPDIR/lines"
read -ru $lines line  # both processes run by now
kill -TERM $shipping
if wait $shipping; then echo "it was faster than the signal"; fi
[[ -z "$(ls -A "$TEST_TMPDIR/tmp")" ]]

head -c 1000 "$2" > "$TEST_TMPDIR/broken.safetensors"
if "$1" --model "$TEST_TMPDIR/broken.safetensors" --out "$out.broken"; then
  echo "a broken model was shipped"
  exit 1
fi
[[ ! -e "$out.broken" ]]
