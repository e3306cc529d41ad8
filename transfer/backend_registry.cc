#include "transfer/backend_registry.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace tensorferry {

BackendRegistry& BackendRegistry::Global() {
  static BackendRegistry* const registry = new BackendRegistry;
  return *registry;
}

absl::Status BackendRegistry::Register(ChannelBackend channel) {
  if (channel.priority < 0 || channel.priority > ChannelBackend::kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat(
        "channel \"", channel.name, "\": priority ", channel.priority,
        ", want 0 to ", ChannelBackend::kMaxPriority));
  }
  absl::MutexLock lock(&mu_);
  for (const ChannelBackend& other : channels_) {
    if (other.name == channel.name) {
      return absl::AlreadyExistsError(
          absl::StrCat("channel \"", channel.name, "\" is registered already"));
    }
    if (other.priority == channel.priority) {
      return absl::AlreadyExistsError(
          absl::StrCat("channel \"", channel.name, "\": priority ",
                       channel.priority, " belongs to \"", other.name, "\""));
    }
  }
  auto lower = std::find_if(channels_.begin(), channels_.end(),
                            [&](const ChannelBackend& other) {
                              return other.priority < channel.priority;
                            });
  channels_.insert(lower, std::move(channel));
  return absl::OkStatus();
}

std::vector<ChannelBackend> BackendRegistry::channels() const {
  absl::MutexLock lock(&mu_);
  return channels_;
}

BackendRegistrar::BackendRegistrar(ChannelBackend channel) {
  absl::Status status = BackendRegistry::Global().Register(std::move(channel));
  if (status.ok()) return;
  std::fprintf(stderr, "tensorferry: %s; is one library linked twice?\n",
               std::string(status.message()).c_str());
  std::abort();
}

}  // namespace tensorferry
