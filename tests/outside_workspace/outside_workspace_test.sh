#!/bin/bash
# Builds and runs a workspace that depends on this checkout, with absl and gRPC
# bound to labels of its own and an installed libtorch and CUDA, and reads what
# one that lacks them is told.
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

# As a Python package of torch lies on a disk.
installed=$TEST_TMPDIR/torch
mkdir -p "$installed/lib"
ln -s "$fetched/ferry_libtorch/include" "$installed/include"
ln -s "$fetched"/ferry_libtorch/lib/*.so* "$installed/lib"
touch "$installed/lib/libc10_cuda.so" # tells that it was built with CUDA
export TENSORFERRY_LIBTORCH_ROOT=$installed
export TENSORFERRY_CUDA_ROOT=$fetched/ferry_cuda

# If tensorferry's own absl or gRPC were used after all, this would end it.
export TENSORFERRY_ABSL_ROOT=/nonexistent TENSORFERRY_GRPC_ROOT=/nonexistent

bazel() {
  command bazel --output_user_root="$TEST_TMPDIR/bazel" --max_idle_secs=60 "$@"
}
trap 'bazel shutdown' EXIT
options=(
  --cxxopt=-std=c++20 --host_cxxopt=-std=c++20
  --disk_cache="$(cd ~ && pwd)/.cache/tensorferry/bazel"
)
bound=(
  --@tensorferry//third_party/absl=//:absl
  --@tensorferry//third_party/grpc=//:grpc
  --@tensorferry//third_party/grpc:cpp_plugin=@my_grpc//:cpp_plugin
  --@tensorferry//third_party/grpc:reflection=@my_grpc//:reflection
)

bazel run "${options[@]}" "${bound[@]}" //:program

# The whole front door can be loaded from here.
bazel build --nobuild "${options[@]}" "${bound[@]}" \
  @tensorferry//:catalog @tensorferry//:control_service \
  @tensorferry//:protos @tensorferry//:reconnect @tensorferry//:serialization \
  @tensorferry//:testing @tensorferry//:torch_rpc

# expect_error TEXT BAZEL_ARGUMENT...
expect_error() {
  local text=$1
  shift
  if bazel build --nobuild "${options[@]}" "$@" //:program 2>output; then
    echo "it went unnoticed that $text"
    exit 1
  fi
  grep "$text" output || { cat output; exit 1; }
}
expect_error 'TENSORFERRY_[A-Z]*_ROOT=/nonexistent has no .*: set it to'
export TENSORFERRY_LIBTORCH_ROOT=/nonexistent
expect_error 'TENSORFERRY_LIBTORCH_ROOT=/nonexistent has no lib/libtorch_cpu.so: set it to' "${bound[@]}"
export TENSORFERRY_LIBTORCH_ROOT=$installed TENSORFERRY_CUDA_ROOT=/nonexistent
expect_error 'TENSORFERRY_CUDA_ROOT=/nonexistent has no include/cuda_runtime_api.h: set it to' "${bound[@]}"
