#!/bin/bash
# Every kind of tensor arrives and the call is answered.
set -euo pipefail
"$1" 2>&1 | tee "$TEST_TMPDIR/log"
output=$(<"$TEST_TMPDIR/log")
for line in "  dense " "  view " "  sparse " "  empty " "  fp8 " \
            "sent 5 tensors" "1 doubled is 2" "  lent " "lent over unix/local/lease" "OK"; do
  grep -qF -- "$line" <<<"$output" || { echo "missing: '$line'"; exit 1; }
done
