#include "session/local_capabilities.h"

#include <limits.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "control/wire_version.h"
#include "transfer/paths.h"

namespace tensorferry {
namespace {

// Two processes are on one host, in the sense that one can read the other's
// memory, if they share the running kernel and the pid namespace.
std::string HostId() {
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  char pid_namespace[PATH_MAX];
  const ssize_t length =
      readlink("/proc/self/ns/pid", pid_namespace, sizeof(pid_namespace));
  if (boot_id.empty() || length <= 0) return "";
  return absl::StrCat(boot_id, "/", absl::string_view(pid_namespace, length));
}

PathCapability::Reach ReachOf(ChannelBackend::Reach reach) {
  switch (reach) {
    case ChannelBackend::Reach::kAnywhere:
      return PathCapability::Reach::kAnywhere;
    case ChannelBackend::Reach::kSameHost:
      return PathCapability::Reach::kSameHost;
    case ChannelBackend::Reach::kSameHostAndUser:
      return PathCapability::Reach::kSameHostAndUser;
    case ChannelBackend::Reach::kSameProcess:
      return PathCapability::Reach::kSameProcess;
  }
  return PathCapability::Reach::kSameProcess;
}

}  // namespace

Capabilities LocalCapabilities(const PeerId& peer, const Limits& limits,
                               const ConverterRegistry& converters,
                               const BackendRegistry& backends,
                               bool plaintext_between_hosts) {
  Capabilities result;
  result.peer = peer;
  result.wire_versions = kWireVersions;
  result.devices = converters.Devices();
  for (PathInfo& path : Paths(backends, plaintext_between_hosts)) {
    result.paths.push_back({.name = std::move(path.name),
                            .from_type = std::move(path.from_type),
                            .to_type = std::move(path.to_type),
                            .priority = path.priority,
                            .reach = ReachOf(path.reach),
                            .unusable = std::move(path.unusable),
                            .opens_device = path.opens_device,
                            .only_if_named = path.only_if_named});
  }
  result.host_id = HostId();
  result.user_id = geteuid();
  result.process_id = static_cast<uint32_t>(getpid());
  result.limits = limits;
  return result;
}

}  // namespace tensorferry
