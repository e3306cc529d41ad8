#include "transfer/paths.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tensorferry {
namespace {

using Reach = ChannelBackend::Reach;

constexpr Wire kWires[] = {Wire::kUnix, Wire::kTcp, Wire::kTls};

// What is between the channels of one wire and those of the next.
constexpr int kStep = ChannelBackend::kMaxPriority + 1;

Reach ReachOf(Wire wire, bool plaintext_between_hosts) {
  switch (wire) {
    case Wire::kUnix:
      return Reach::kSameHostAndUser;
    case Wire::kTcp:
      return plaintext_between_hosts ? Reach::kAnywhere : Reach::kSameHost;
    case Wire::kTls:
      return Reach::kAnywhere;
  }
  return Reach::kSameHostAndUser;
}

}  // namespace

std::optional<PathName> ParsePathName(absl::string_view path) {
  std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(path, absl::MaxSplits('/', 1));
  for (Wire wire : kWires) {
    if (parts.first == ToString(wire)) {
      return PathName{wire, std::string(parts.second)};
    }
  }
  return std::nullopt;
}

std::string ToString(const PathName& path) {
  return absl::StrCat(ToString(path.wire), "/", path.channel);
}

std::vector<Wire> WiresOf(const std::vector<std::string>& paths) {
  std::vector<Wire> wires;
  for (const std::string& path : paths) {
    std::optional<PathName> name = ParsePathName(path);
    if (name &&
        std::find(wires.begin(), wires.end(), name->wire) == wires.end()) {
      wires.push_back(name->wire);
    }
  }
  return wires;
}

std::vector<PathInfo> Paths(const BackendRegistry& backends,
                            bool plaintext_between_hosts) {
  std::vector<PathInfo> paths;
  int base = static_cast<int>(std::size(kWires)) * kStep;
  for (Wire wire : kWires) {
    base -= kStep;
    for (const ChannelBackend& channel : backends.channels()) {
      if (channel.only_on_unix && wire != Wire::kUnix) continue;
      const std::string unusable = channel.unusable ? channel.unusable() : "";
      for (const auto& [from, to] : channel.carries) {
        paths.push_back(
            {ToString(PathName{wire, channel.name}), from, to,
             base + channel.priority,
             std::max(channel.reach, ReachOf(wire, plaintext_between_hosts)),
             unusable, channel.opens_device, channel.only_if_named});
      }
    }
  }
  return paths;
}

}  // namespace tensorferry
