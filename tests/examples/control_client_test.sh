#!/bin/bash
# Python's gRPC finds out by reflection what a served peer can do and has.
set -euo pipefail
command=$PWD/$1 client=$PWD/$2 site=$(cd "$(dirname "$3")" && pwd) model=$PWD/$4
receiver=$PWD/$5
cd "$TEST_TMPDIR"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# serve ARGUMENT...: starts a peer; its address is in $address then.
serve() {
  rm -f ready log
  mkfifo log
  "$command" serve --name shelf --control 127.0.0.1:0 --publish "$model" \
    --ready_file ready "$@" 2>log &
  server=$!
  exec {lines}<log  # stays open: the server writes to it until its end
  until [[ -s ready ]]; do read -ru $lines line; echo "$line"; done
  address=$(<ready)
}
ask() { PYTHONPATH="$site" python3 "$client" "$@"; }

serve
output=$(ask "$address")
echo "$output"
grep -q "peer 'shelf'" <<<"$output"
grep -q "path unix/basic: cpu -> cpu, usable" <<<"$output"
grep -q "an offer without rules goes over .*unix/basic" <<<"$output"
grep -Eq "bundle 'model' version 1: [1-9][0-9]+ tensors" <<<"$output"

# Nobody there: one sentence and exit code 1, no traceback.
kill $server
wait $server
if ask "$address" 2>err; then exit 1; fi
grep -q UNAVAILABLE err
! grep -q Traceback err || exit 1

# Over TLS, with a token.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
  -subj /CN=shelf -addext subjectAltName=IP:127.0.0.1 -out cert.pem -keyout key.pem
echo secret >token
echo "ci $(tr -d '\n' <token | sha256sum | cut -c1-64)" >tokens
serve --tls_cert cert.pem --tls_key key.pem --token_file tokens
output=$(ask "$address" --tls_ca cert.pem --token_file token)
grep -q "bundle 'model' version 1" <<<"$output"
if ask "$address" --tls_ca cert.pem 2>err; then exit 1; fi
grep -q UNAUTHENTICATED err

# A peer without a catalog.
mkfifo started
"$receiver" 2>started &
exec {started}<started
until [[ -S control ]]; do kill -0 $!; done
output=$(ask unix:control)
grep -q "peer 'receiver'" <<<"$output"
grep -q "it serves no catalog" <<<"$output"
