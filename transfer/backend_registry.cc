#include "transfer/backend_registry.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

template <class Backend>
absl::Status Add(Backend backend, absl::string_view kind,
                 std::vector<Backend>& backends) {
  for (const Backend& other : backends) {
    if (other.name == backend.name) {
      return absl::AlreadyExistsError(
          absl::StrCat(kind, " \"", backend.name, "\" is registered already"));
    }
    if (other.priority == backend.priority) {
      return absl::AlreadyExistsError(
          absl::StrCat(kind, " \"", backend.name, "\": priority ",
                       backend.priority, " belongs to \"", other.name, "\""));
    }
  }
  auto lower = std::find_if(
      backends.begin(), backends.end(),
      [&](const Backend& other) { return other.priority < backend.priority; });
  backends.insert(lower, std::move(backend));
  return absl::OkStatus();
}

template <class Backend>
void RegisterOrExit(Backend backend) {
  absl::Status status = BackendRegistry::Global().Register(std::move(backend));
  if (status.ok()) return;
  std::fprintf(stderr, "tensorferry: %s; is one library linked twice?\n",
               std::string(status.message()).c_str());
  std::abort();
}

}  // namespace

BackendRegistry& BackendRegistry::Global() {
  static BackendRegistry* const registry = new BackendRegistry;
  return *registry;
}

absl::Status BackendRegistry::Register(TransportBackend transport) {
  absl::MutexLock lock(&mu_);
  return Add(std::move(transport), "transport", transports_);
}

absl::Status BackendRegistry::Register(ChannelBackend channel) {
  absl::MutexLock lock(&mu_);
  return Add(std::move(channel), "channel", channels_);
}

std::vector<TransportBackend> BackendRegistry::transports() const {
  absl::MutexLock lock(&mu_);
  return transports_;
}

std::vector<ChannelBackend> BackendRegistry::channels() const {
  absl::MutexLock lock(&mu_);
  return channels_;
}

std::vector<PathInfo> BackendRegistry::Paths() const {
  std::vector<PathInfo> paths;
  for (const TransportBackend& transport : transports()) {
    for (const ChannelBackend& channel : channels()) {
      paths.push_back({absl::StrCat(transport.name, "/", channel.name),
                       channel.from_type, channel.to_type, channel.priority,
                       channel.reach,
                       channel.unusable ? channel.unusable() : ""});
    }
  }
  return paths;
}

BackendRegistrar::BackendRegistrar(TransportBackend transport) {
  RegisterOrExit(std::move(transport));
}

BackendRegistrar::BackendRegistrar(ChannelBackend channel) {
  RegisterOrExit(std::move(channel));
}

}  // namespace tensorferry
