#include "transfer/lane_context.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/exception_status.h"
#include "transfer/paths.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

using Channels = std::vector<LaneContext::Channel>;

tensorpipe::Device ToTensorpipe(const DeviceId& device) {
  return tensorpipe::Device(device.type, device.index);
}

// Empty, or why there is no such channel.
std::string AddChannel(const std::vector<ChannelBackend>& backends,
                       const std::string& name,
                       const ChannelEnvironment& environment,
                       Channels& channels) {
  auto named = [&](const auto& channel) { return channel.name == name; };
  if (std::any_of(channels.begin(), channels.end(), named)) return "";
  auto backend = std::find_if(backends.begin(), backends.end(), named);
  if (backend == backends.end()) return "no such channel in this program";
  if (backend->unusable) {
    std::string why = backend->unusable();
    if (!why.empty()) return why;
  }
  std::shared_ptr<tensorpipe::channel::Context> context;
  const absl::Status made = CatchExceptions(
      "tensorpipe", [&] { context = backend->make(environment); });
  if (!made.ok()) return std::string(made.message());
  if (context == nullptr || !context->isViable()) {
    return "the channel does not work in this process";
  }
  channels.push_back({name, std::move(context)});
  return "";
}

// FAILED_PRECONDITION: no path can be used.
absl::StatusOr<Channels> MakeChannels(const BackendRegistry& registry,
                                      const std::vector<std::string>& paths,
                                      std::optional<Wire> wire,
                                      const ChannelEnvironment& environment) {
  const std::vector<ChannelBackend> backends = registry.channels();
  Channels channels;
  std::vector<std::string> refused;
  for (const std::string& path : paths) {
    std::optional<PathName> name = ParsePathName(path);
    if (name && wire && name->wire != *wire) continue;
    std::string why =
        name ? AddChannel(backends, name->channel, environment, channels)
             : "no such wire in this program";
    if (!why.empty()) refused.push_back(absl::StrCat(path, ": ", why));
  }
  if (!channels.empty()) return channels;
  return absl::FailedPreconditionError(absl::StrCat(
      "none of the ", paths.size(), " paths of this session can be used (",
      absl::StrJoin(refused, "; "), ")"));
}

LaneContext Assemble(Channels channels,
                     std::shared_ptr<tensorpipe::transport::Context> transport,
                     const std::string& name) {
  LaneContext made;
  made.context = std::make_shared<tensorpipe::Context>(
      tensorpipe::ContextOptions().name(name));
  made.context->registerTransport(0, kTransportName, transport);
  int64_t priority = 0;
  for (const LaneContext::Channel& channel : channels) {
    // tensorpipe takes the channel of the highest priority.
    made.context->registerChannel(--priority, channel.name, channel.context);
  }
  made.transport = std::move(transport);
  made.channels = std::move(channels);
  return made;
}

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

bool LaneContext::HasLostAChannel() const {
  return std::any_of(
      channels.begin(), channels.end(),
      [](const Channel& channel) { return !channel.context->isViable(); });
}

std::string LaneContext::ChannelTo(
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
        return channel.name;
      }
    }
  }
  return "";
}

void LaneContext::Cut() {
  transport->close();
  for (const Channel& channel : channels) {
    // What it throws now adds nothing to what is known.
    CatchExceptions("closing a channel", [&] {
      channel.context->close();
    }).IgnoreError();
  }
}

absl::StatusOr<LaneContext> MakeLaneContext(
    const BackendRegistry& backends, const std::vector<std::string>& paths,
    std::optional<Wire> wire,
    std::shared_ptr<tensorpipe::transport::Context> transport,
    const ChannelEnvironment& environment, const std::string& name) {
  absl::Status status;
  try {
    absl::StatusOr<Channels> channels =
        MakeChannels(backends, paths, wire, environment);
    if (channels.ok()) return Assemble(*std::move(channels), transport, name);
    status = channels.status();
  } catch (...) {
    status = CurrentExceptionStatus("making a tensorpipe context");
  }
  transport->close();
  return status;
}

}  // namespace tensorferry
