#!/bin/bash
# Runs the commands of the README's sections "The command" and "Among others" as
# they stand there, with other ports and hosts: readme_test.sh README PROGRAM MODEL
set -euo pipefail

readme=$PWD/$1
program=$PWD/$2
model=$PWD/$3

mkdir "$TEST_TMPDIR/checkout"
cd "$TEST_TMPDIR/checkout"
mkdir -p bazel-bin/cli
ln -s "$program" bazel-bin/cli/tensorferry
cp "$model" model.safetensors

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# block HEADING NUMBER: that block behind the heading.
block() {
  sed -n "/^##* $1\$/,/^##* /p" "$readme" |
    awk -v wanted="$2" '/^```/ { inside = !inside; number += inside; next }
                        inside && number == wanted'
}

# run FILE: its commands, all of which have to succeed.
run() {
  { echo "set -e"; cat "$1"; } >script
  cat script
  timeout 120 bash -x script
}

block "The command" 1 | sed "s/127.0.0.1:4750/127.0.0.1:$(free_port)/" >commands
(($(wc -l <commands) >= 8)) || { echo "the README has no such block"; exit 1; }
echo 'wait $!' >>commands
run commands
cmp model.safetensors copy.safetensors
cmp other.safetensors inbox/other.safetensors

# ---- Among others

rm copy.safetensors
export PATH=$PWD/bazel-bin/cli:$PATH

# new_certificate FILE ALTERNATIVE_NAMES OPENSSL_ARGUMENT...
new_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -subj "/CN=$1" -addext "subjectAltName=$2" -out "$1.pem" -keyout "$1.key" \
    "${@:3}"
}
new_certificate ca DNS:ca
for name in "shelf IP:127.0.0.1" "me DNS:me.train.example"; do
  new_certificate $name -CA ca.pem -CAkey ca.key \
    -addext basicConstraints=critical,CA:FALSE
done
block "Among others" 2 >policy.textproto
grep -o '`openssl rand[^`]*`' "$readme" | tr -d '`' >make_token
grep -o '`echo "ci [^`]*`' "$readme" | tr -d '`' >>make_token
run make_token

port=$(free_port)
block "Among others" 1 |
  sed "s/shelf.example:4750/127.0.0.1:$port/; s/0.0.0.0:4750/0.0.0.0:$port/
       s/192.0.2.7/127.0.0.1/" >commands
# The first of them serves, the others run meanwhile.
awk '{ print } !/\\$/ { exit }' commands | sed '$s/$/ --ready_file ready \&/' >served
echo 'while kill -0 $! && [ ! -s ready ]; do sleep 0.1; done' >>served
awk 'meanwhile { print } !/\\$/ { meanwhile = 1 }' commands >>served
# What the README says of a pull without --names.
echo 'pull=$(grep -A9 "^tensorferry pull" commands | sed "/list/d; s/--names [^ ]*//")' >>served
echo '! eval "$pull" 2>refused' >>served
echo 'kill $!; wait $!' >>served
run served
[[ -s copy.safetensors ]]
grep -q PERMISSION_DENIED refused
