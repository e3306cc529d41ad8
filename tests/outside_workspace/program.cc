// A program of another workspace. Placeholder until the front door opens.

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <grpcpp/grpcpp.h>

#include <cstdio>

#include "absl/status/status.h"

#if !defined(BOUND_ABSL) || !defined(BOUND_GRPC)
#error "tensorferry was built with another absl or gRPC than it is bound to"
#endif

int main() {
  const bool ok = absl::OkStatus().ok() && grpc::Status::OK.ok() &&
                  at::ones({2}).numel() == 2;
  std::puts(ok ? "outside: ok" : "outside: wrong");
  return ok ? 0 : 1;
}
