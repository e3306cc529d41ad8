#include "cli/device_text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/values.h"

namespace tensorferry::cli {
namespace {

std::vector<std::string> PeersOf(const DeviceInfo& device) {
  std::vector<std::string> peers;
  for (int index : device.peers) {
    peers.push_back(ToString(DeviceId{device.id.type, index}));
  }
  return peers;
}

}  // namespace

std::string ShowDevice(const DeviceInfo& device) {
  std::vector<std::string> parts;
  if (!device.name.empty()) parts.push_back(device.name);
  if (device.free_bytes > 0) {
    parts.push_back(absl::StrCat(ShowBytes(device.free_bytes), " free of ",
                                 ShowBytes(device.total_bytes)));
  } else if (device.total_bytes > 0) {
    parts.push_back(ShowBytes(device.total_bytes));
  }
  if (!device.uuid.empty()) parts.push_back(device.uuid);
  if (device.carried_as) {
    parts.push_back(absl::StrCat("crosses as ", ToString(*device.carried_as)));
  }
  if (!device.driver.empty()) {
    parts.push_back(absl::StrCat("driver ", device.driver));
  }
  if (!device.runtime.empty()) {
    parts.push_back(absl::StrCat("runtime ", device.runtime));
  }
  if (!device.peers.empty()) {
    parts.push_back(
        absl::StrCat("reaches ", absl::StrJoin(PeersOf(device), " ")));
  }
  return OneLine(absl::StrJoin(parts, ", "));
}

Json DeviceToJson(const DeviceInfo& device) {
  return {
      {"id", ToString(device.id)},
      {"name", device.name},
      {"uuid", device.uuid},
      {"total_bytes", device.total_bytes},
      {"free_bytes", device.free_bytes},
      {"reaches", PeersOf(device)},
      {"driver", device.driver},
      {"runtime", device.runtime},
      {"carried_as", device.carried_as ? ToString(*device.carried_as) : ""}};
}

}  // namespace tensorferry::cli
