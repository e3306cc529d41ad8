#!/bin/bash
# Builds and runs a workspace that depends on this checkout, with absl and gRPC
# bound to labels of its own, and reads what an unbound one is told.
set -euo pipefail

here=tests/outside_workspace
checkout=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
# Wheels that this checkout has fetched already.
fetched=$(dirname "$(dirname "$(readlink -f ../ferry_libtorch/built_with_cuda.bzl)")")

outside=$TEST_TMPDIR/outside
mkdir "$outside"
sed "s|%TENSORFERRY%|$checkout|" $here/outside.WORKSPACE >"$outside/WORKSPACE"
cp $here/outside.BUILD "$outside/BUILD.bazel"
cp $here/program.cc "$outside"
cd "$outside"

# If tensorferry's own absl or gRPC were used after all, this would end it.
export TENSORFERRY_ABSL_ROOT=/nonexistent TENSORFERRY_GRPC_ROOT=/nonexistent

bazel() {
  command bazel --output_user_root="$TEST_TMPDIR/bazel" --max_idle_secs=60 "$@"
}
trap 'bazel shutdown' EXIT
options=(
  --cxxopt=-std=c++20 --host_cxxopt=-std=c++20
  --disk_cache="$(cd ~ && pwd)/.cache/tensorferry/bazel"
  --override_repository=ferry_libtorch="$fetched/ferry_libtorch"
  --override_repository=ferry_cuda="$fetched/ferry_cuda"
)
bound=(
  --@tensorferry//third_party/absl=//:absl
  --@tensorferry//third_party/grpc=//:grpc
  --@tensorferry//third_party/grpc:cpp_plugin=@my_grpc//:cpp_plugin
)

bazel run "${options[@]}" "${bound[@]}" //:program

if bazel build "${options[@]}" //:program 2>output; then
  echo "a wrong TENSORFERRY_ABSL_ROOT went unnoticed"
  exit 1
fi
grep 'TENSORFERRY_[A-Z]*_ROOT=/nonexistent has no .*: set it to' output ||
  { cat output; exit 1; }
