// Device and pinned memory of a process with 1 to 64 sessions, all of which
// have sent.
#include <ATen/ops/ones.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "session/blocking.h"
#include "tests/software_gpu/torch_fixture.h"
#include "tests/testing/peer_pair.h"

namespace tensorferry {
namespace {

constexpr int64_t kFloats = 1 << 18;

bool SendOne(testing::PeerPair& pair, const at::Tensor& tensor) {
  pair.callee_session->Receive({}, [](absl::StatusOr<Received>) {});
  return blocking::Send(*pair.caller_session, {.tensors = {tensor}}).ok();
}

int Run(const std::string& channel) {
  Offer offer;
  offer.to_callee.rules = {*ParsePlacementRule("cuda:0=cuda:0")};
  offer.paths = {"unix/basic", "unix/" + channel};
  const at::Tensor tensor = at::ones({kFloats}, software_gpu::OnDevice(0));
  const size_t device = software_gpu::MemoryUsed(0);
  const size_t pinned = software_gpu::PinnedMemoryUsed();
  std::vector<testing::PeerPair> pairs;
  for (size_t sessions : {1, 8, 64}) {
    while (pairs.size() < sessions) {
      auto pair = testing::MakePeerPair(offer);
      if (!pair.ok() || !SendOne(*pair, tensor)) return 1;
      pairs.push_back(*std::move(pair));
    }
    std::printf(
        "%-10s %2zu sessions: %3zu MiB of the device, %3zu MiB pinned\n",
        channel.c_str(), sessions, (software_gpu::MemoryUsed(0) - device) >> 20,
        (software_gpu::PinnedMemoryUsed() - pinned) >> 20);
  }
  return 0;
}

}  // namespace
}  // namespace tensorferry

int main() {
  for (const char* channel : {"cuda_xth", "cuda_basic"}) {
    if (tensorferry::Run(channel) != 0) return 1;
  }
}
