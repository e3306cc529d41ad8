#!/bin/bash
# The real model crosses between two processes and is the same byte for byte;
# a model that is not one fails.
set -euo pipefail
out="$TEST_TMPDIR/pulled.safetensors"
output=$("$1" --model "$2" --out "$out" 2>&1)
echo "$output"
cmp "$2" "$out"
grep -q "identical" <<<"$output"

head -c 1000 "$2" > "$TEST_TMPDIR/broken.safetensors"
if "$1" --model "$TEST_TMPDIR/broken.safetensors" --out "$out.broken"; then
  echo "a broken model was shipped"
  exit 1
fi
[[ ! -e "$out.broken" ]]
