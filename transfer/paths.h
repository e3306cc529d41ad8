#ifndef TENSORFERRY_TRANSFER_PATHS_H_
#define TENSORFERRY_TRANSFER_PATHS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "transfer/backend_registry.h"
#include "transport/data_address.h"

namespace tensorferry {

// A path is a wire and a channel on it: "unix/local", "tcp/basic".
struct PathName {
  Wire wire = Wire::kUnix;
  std::string channel;
};

// nullopt: no wire of that name.
std::optional<PathName> ParsePathName(absl::string_view path);
std::string ToString(const PathName& path);

// The wires of `paths`, each once, in their order.
std::vector<Wire> WiresOf(const std::vector<std::string>& paths);

// A path between two types of device, as control/ speaks of it.
struct PathInfo {
  std::string name, from_type, to_type;
  int priority = 0;  // by wire, then by channel; unique per pair of types
  ChannelBackend::Reach reach = ChannelBackend::Reach::kAnywhere;
  std::string unusable;  // why; empty: it can be used
  bool opens_device = false;
  bool only_if_named = false;
};

// All paths of this program, the best first. Plain TCP stays on its host unless
// `plaintext_between_hosts`.
std::vector<PathInfo> Paths(const BackendRegistry& backends,
                            bool plaintext_between_hosts);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_PATHS_H_
