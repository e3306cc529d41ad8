// Device and pinned memory of processes with 1 to 64 sessions between them, all
// of which have sent; but for the tensor that is sent, and with libtorch's cache
// of the device empty.
#include <ATen/ops/ones.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/cuda/child_peer.h"
#include "tests/software_gpu/torch_fixture.h"

namespace tensorferry {
namespace {

using testing::ChildPeer;
using testing::DropAll;

constexpr int64_t kFloats = 1 << 18;

struct Memory {
  size_t device = 0, pinned = 0;
};

Memory MemoryNow() {
  cudaDeviceSynchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
  return {software_gpu::MemoryUsed(0), software_gpu::PinnedMemoryUsed()};
}

// "32 | 0": MiB of the device and pinned.
std::string MemorySince(const Memory& before) {
  const Memory now = MemoryNow();
  return absl::StrCat((now.device - before.device) >> 20, " | ",
                      (now.pinned - before.pinned) >> 20);
}

// `there`: in a process of its own.
int Run(const std::string& channel, bool there) {
  Offer offer;
  offer.to_callee.rules = {*ParsePlacementRule("cuda:0=cuda:0")};
  offer.paths = {"unix/basic", "unix/" + channel};
  std::optional<ChildPeer> child;
  std::unique_ptr<Peer> callee;
  if (there) {
    auto started = ChildPeer::Start();
    if (!started.ok()) return 1;
    child.emplace(*std::move(started));
  } else {
    callee = *Peer::Create({.name = "callee"});
    callee->Accept(DropAll);
  }
  const std::string address =
      child ? child->address() : callee->control_address();
  auto caller = *Peer::Create({.name = "caller", .control = ""});
  const at::Tensor tensor = at::ones({kFloats}, software_gpu::OnDevice(0));
  const Memory before = MemoryNow();
  std::vector<std::shared_ptr<Session>> sessions;
  for (size_t wanted : {1, 8, 64}) {
    while (sessions.size() < wanted) {
      auto session =
          blocking::Connect(*caller, address, offer, absl::Seconds(30));
      if (!session.ok()) return 1;
      sessions.push_back(*std::move(session));
      const auto sent =
          blocking::Send(*sessions.back(), {.type = 1, .tensors = {tensor}});
      if (!sent.ok()) return 1;
    }
    std::printf("| %s | %zu | %s | %s |\n", channel.c_str(), wanted,
                MemorySince(before).c_str(),
                child ? child->Ask("memory").c_str() : "|");
    std::fflush(stdout);
  }
  return 0;
}

int RunAll() {
  std::printf(
      "| channel | sessions | sends: device MiB | pinned MiB | "
      "receives: device MiB | pinned MiB |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  std::fflush(stdout);
  return Run("cuda_xth", false) || Run("cuda_ipc", true) ||
         Run("cuda_basic", true) || Run("local", true);
}

int RunChild() {
  return testing::ServeAsChild(
      DropAll, [](const std::string&) { return MemorySince({}); });
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == tensorferry::testing::kChildPeer) {
    return tensorferry::RunChild();
  }
  return tensorferry::RunAll();
}
