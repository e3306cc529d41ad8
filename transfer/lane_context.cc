#include "transfer/lane_context.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

tensorpipe::Device ToTensorpipe(const DeviceId& device) {
  return tensorpipe::Device(device.type, device.index);
}

template <class Backend>
const Backend* Find(const std::vector<Backend>& backends,
                    absl::string_view name) {
  for (const Backend& backend : backends) {
    if (backend.name == name) return &backend;
  }
  return nullptr;
}

// libuv writes to sockets whose peer may be gone, and the system ends a process
// for that with SIGPIPE. Threads inherit the mask of those that start them, so
// tensorpipe's get one in which the signal is blocked, and an error instead;
// the process's own handling of the signal stays as it is.
class SigpipeBlocked {
 public:
  SigpipeBlocked() {
    sigset_t sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before_);
  }
  ~SigpipeBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

class Maker {
 public:
  Maker(const BackendRegistry& backends, absl::string_view name)
      : transports_(backends.transports()), channels_(backends.channels()) {
    made_.context = std::make_shared<tensorpipe::Context>(
        tensorpipe::ContextOptions().name(std::string(name)));
  }

  // Empty, or why the path cannot be used.
  std::string Add(absl::string_view path) {
    std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(path, absl::MaxSplits('/', 1));
    std::string why = AddTransport(parts.first);
    return why.empty() ? AddChannel(parts.second) : why;
  }

  LaneContext Take() { return std::move(made_); }

 private:
  std::string AddTransport(absl::string_view name) {
    if (made_.transport == name) return "";
    if (!made_.transport.empty()) {
      return absl::StrCat("a session has one transport, and this one has ",
                          made_.transport);
    }
    const TransportBackend* backend = Find(transports_, name);
    if (backend == nullptr) return "no such transport in this program";
    auto context = backend->make();
    if (context == nullptr || !context->isViable()) {
      return "the transport does not work in this process";
    }
    made_.context->registerTransport(0, backend->name, std::move(context));
    made_.transport = backend->name;
    return "";
  }

  std::string AddChannel(absl::string_view name) {
    const ChannelBackend* backend = Find(channels_, name);
    if (backend == nullptr) return "no such channel in this program";
    if (backend->unusable) {
      std::string why = backend->unusable();
      if (!why.empty()) return why;
    }
    auto context = backend->make();
    if (context == nullptr || !context->isViable()) {
      return "the channel does not work in this process";
    }
    // tensorpipe takes the channel of the highest priority.
    int64_t priority = -static_cast<int64_t>(made_.channels.size());
    made_.context->registerChannel(priority, backend->name, context);
    made_.channels.push_back({backend->name, std::move(context)});
    return "";
  }

  const std::vector<TransportBackend> transports_;
  const std::vector<ChannelBackend> channels_;
  LaneContext made_;
};

}  // namespace

std::vector<ChannelDescription> LaneContext::Describe() const {
  std::vector<ChannelDescription> all;
  for (const Channel& channel : channels) {
    for (const auto& [device, text] : channel.context->deviceDescriptors()) {
      all.push_back({channel.name, device.type, device.index, text});
    }
  }
  return all;
}

std::string LaneContext::PathTo(
    const DeviceId& local, const DeviceId& remote,
    const std::vector<ChannelDescription>& peer) const {
  for (const Channel& channel : channels) {
    const auto& own = channel.context->deviceDescriptors();
    auto described = own.find(ToTensorpipe(local));
    if (described == own.end()) continue;
    for (const ChannelDescription& theirs : peer) {
      if (theirs.name == channel.name && theirs.device_type == remote.type &&
          theirs.device_index == remote.index &&
          channel.context->canCommunicateWithRemote(described->second,
                                                    theirs.descriptor)) {
        return absl::StrCat(transport, "/", channel.name);
      }
    }
  }
  return "";
}

absl::StatusOr<LaneContext> MakeLaneContext(
    const BackendRegistry& backends, const std::vector<std::string>& paths,
    const std::set<std::string>& without, absl::string_view name) {
  SigpipeBlocked inherited;
  try {
    Maker maker(backends, name);
    std::vector<std::string> refused;
    for (const std::string& path : paths) {
      std::string why =
          without.count(path) != 0 ? "it was given up" : maker.Add(path);
      if (!why.empty()) refused.push_back(absl::StrCat(path, ": ", why));
    }
    LaneContext made = maker.Take();
    if (!made.channels.empty()) return made;
    return absl::FailedPreconditionError(absl::StrCat(
        "none of the ", paths.size(), " paths of this session can be used (",
        absl::StrJoin(refused, "; "), ")"));
  } catch (...) {
    return CurrentExceptionStatus("making a tensorpipe context");
  }
}

}  // namespace tensorferry
