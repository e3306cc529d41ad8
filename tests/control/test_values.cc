#include "tests/control/test_values.h"

#include <cstdlib>
#include <utility>

namespace tensorferry {
namespace testing {
namespace {

DeviceId Device(const std::string& text) {
  auto device = ParseDeviceId(text);
  if (!device.ok()) std::abort();
  return *device;
}

}  // namespace

Capabilities PeerWith(const std::string& name,
                      const std::vector<std::string>& devices) {
  Capabilities peer;
  peer.peer = {name, 1000 + name.size()};
  peer.host_id = "host-1";
  peer.user_id = 7;
  peer.devices.push_back({});
  bool cuda = false;
  for (const std::string& device : devices) {
    DeviceInfo info;
    info.id = Device(device);
    cuda |= info.id.type == "cuda";
    peer.devices.push_back(info);
  }
  peer.paths = {
      {"unix/local", "cpu", "cpu", 20, PathCapability::Reach::kSameHostAndUser,
       ""},
      {"unix/basic", "cpu", "cpu", 10, PathCapability::Reach::kAnywhere, ""}};
  if (!cuda) return peer;
  for (const auto& [from, to] :
       {std::pair("cpu", "cuda"), std::pair("cuda", "cpu"),
        std::pair("cuda", "cuda")}) {
    peer.paths.push_back(
        {"unix/cuda", from, to, 5, PathCapability::Reach::kAnywhere, ""});
  }
  return peer;
}

Placement Rules(const std::vector<std::string>& rules) {
  Placement placement;
  for (const std::string& text : rules) {
    auto rule = ParsePlacementRule(text);
    if (!rule.ok()) std::abort();
    placement.rules.push_back(*rule);
  }
  return placement;
}

Offer OfferOf(const std::vector<std::string>& rules_to_callee) {
  Offer offer;
  offer.to_callee = Rules(rules_to_callee);
  return offer;
}

Capabilities GoldenCapabilities() {
  Capabilities peer;
  peer.peer = {"alice", 0xa11};
  peer.wire_versions = {1, 1};
  DeviceInfo cpu, gpu;
  gpu.id = {"cuda", 1};
  gpu.name = "NVIDIA H200";
  gpu.uuid = "GPU-0123";
  gpu.total_bytes = 150ull << 30;
  gpu.free_bytes = 149ull << 30;
  peer.devices = {cpu, gpu};
  peer.paths = {
      {"unix/local", "cpu", "cpu", 20, PathCapability::Reach::kSameHostAndUser,
       "ptrace is off"},
      {"shm/basic", "cpu", "cpu", 15, PathCapability::Reach::kSameHost, ""},
      {"unix/cuda", "cpu", "cuda", -5, PathCapability::Reach::kAnywhere, ""}};
  peer.host_id = "host-1";
  peer.user_id = 1000;
  peer.streams_per_device = 32;
  peer.limits.tensors = 12345;
  return peer;
}

Capabilities GoldenGpuHost() {
  Capabilities peer;
  peer.peer = {"gpus", 0x9b};
  peer.devices.resize(3);
  for (int index : {0, 1}) {
    DeviceInfo& gpu = peer.devices[index + 1];
    gpu.id = {"cuda", index};
    gpu.peers = {1 - index};
    gpu.driver = "13.3";
    gpu.runtime = "13.2";
  }
  return peer;
}

Offer GoldenOffer() {
  Offer offer;
  offer.to_callee = Rules({"cuda:0=cuda:1", "enc.*=cpu"});
  offer.to_caller = Rules({"cuda:1=cuda:0"});
  offer.caller_streams = {{{"cuda", 0}, StreamKind::kHighPriority}};
  offer.callee_streams = {{{"cuda", 1}, StreamKind::kDefault}};
  offer.paths = {"unix/local", "unix/basic"};
  offer.digests = false;
  offer.limits.emplace().body_lanes = 2;
  offer.expected_callee = "bob";
  offer.expected_epoch = 0xb0b;
  return offer;
}

SessionPlan GoldenPlan() {
  SessionPlan plan;
  plan.caller = {"alice", 0xa11};
  plan.callee = {"bob", 0xb0b};
  plan.wire_version = 1;
  plan.to_callee = Rules({"cuda:0=cuda:1", "enc.*=cpu"});
  plan.to_caller = Rules({"cuda:1=cuda:0"});
  plan.caller_streams = {{{"cuda", 0}, StreamKind::kHighPriority}};
  plan.callee_streams = {{{"cuda", 1}, StreamKind::kPool}};
  plan.paths = {
      {{}, {}, {"unix/local", "unix/basic"}, {{"shm/basic", "never"}}},
      {{"cuda", 0}, {"cuda", 1}, {}, {}}};
  plan.limits.rank = 8;
  return plan;
}

}  // namespace testing
}  // namespace tensorferry
