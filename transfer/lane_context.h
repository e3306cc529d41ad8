#ifndef TENSORFERRY_TRANSFER_LANE_CONTEXT_H_
#define TENSORFERRY_TRANSFER_LANE_CONTEXT_H_

#include <tensorpipe/channel/context.h>
#include <tensorpipe/core/context.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/device_id.h"
#include "transfer/backend_registry.h"
#include "transfer/frame_codec.h"
#include "transport/hub.h"

namespace tensorferry {

// What a session's own transport is called, on both sides.
inline constexpr char kTransportName[] = "ferry";

// One tensorpipe::Context over a transport of the hub's, with the channels of
// the paths that a session may use, in the order of the session's plan.
struct LaneContext {
  struct Channel {
    std::string name;  // "local"
    std::shared_ptr<tensorpipe::channel::Context> context;
  };

  std::shared_ptr<tensorpipe::Context> context;
  std::shared_ptr<tensorpipe::transport::Context> transport;
  std::vector<Channel> channels;  // the best first

  // What a Hello says of them.
  std::vector<ChannelDescription> Describe() const;
  // The channel that tensorpipe takes from a local device to one of a peer that
  // described itself so; empty: it has none, and would throw.
  std::string ChannelTo(const DeviceId& local, const DeviceId& remote,
                        const std::vector<ChannelDescription>& peer) const;
  // Whether one of the channels works no more, as one that sessions share may.
  bool HasLostAChannel() const;
  // For one whose tensorpipe threw: closes transport and channels without it.
  // On the loop.
  void Cut();
};

// `paths`: "wire/channel", the best first; only those over `wire`, if given.
// FAILED_PRECONDITION: none of the paths can be used here; says why not, path
// by path. Takes `transport` over, and closes it then.
absl::StatusOr<LaneContext> MakeLaneContext(
    const BackendRegistry& backends, const std::vector<std::string>& paths,
    std::optional<Wire> wire,
    std::shared_ptr<tensorpipe::transport::Context> transport,
    const ChannelEnvironment& environment, const std::string& name);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANE_CONTEXT_H_
