#!/bin/bash
# Runs the commands of the README's section "The command" as they stand there,
# with another port: readme_test.sh README PROGRAM MODEL
set -euo pipefail

readme=$PWD/$1
program=$PWD/$2
model=$PWD/$3
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

mkdir "$TEST_TMPDIR/checkout"
cd "$TEST_TMPDIR/checkout"
mkdir -p bazel-bin/cli
ln -s "$program" bazel-bin/cli/tensorferry
cp "$model" model.safetensors
cp "$model" other.safetensors

# The first block behind the heading.
sed -n '/^## The command$/,/^## /p' "$readme" |
  awk '/^```/ { if (inside) exit; inside = 1; next } inside' |
  sed "s/127.0.0.1:4750/127.0.0.1:$port/" >commands
(($(wc -l <commands) >= 8)) || { echo "the README has no such block"; exit 1; }
{ echo "set -e"; cat commands; echo 'wait $!'; } >script
cat script
timeout 50 bash -x script

cmp model.safetensors copy.safetensors
cmp other.safetensors inbox/other.safetensors
