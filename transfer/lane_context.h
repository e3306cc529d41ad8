#ifndef TENSORFERRY_TRANSFER_LANE_CONTEXT_H_
#define TENSORFERRY_TRANSFER_LANE_CONTEXT_H_

#include <tensorpipe/channel/context.h>
#include <tensorpipe/core/context.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/device_id.h"
#include "transfer/backend_registry.h"
#include "transfer/frame_codec.h"

namespace tensorferry {

// One tensorpipe::Context, with the transport and the channels of the paths
// that a session may use, in the order of the session's plan.
struct LaneContext {
  struct Channel {
    std::string name;  // "cma"
    std::shared_ptr<tensorpipe::channel::Context> context;
  };

  std::shared_ptr<tensorpipe::Context> context;
  std::string transport;
  std::vector<Channel> channels;  // the best first

  // What a Hello says of them.
  std::vector<ChannelDescription> Describe() const;
  // The path that tensorpipe takes from a local device to one of a peer that
  // described itself so; empty: it has none, and would throw.
  std::string PathTo(const DeviceId& local, const DeviceId& remote,
                     const std::vector<ChannelDescription>& peer) const;
};

// `paths`: "transport/channel", the best first; those in `without` are left
// out. FAILED_PRECONDITION: none of the paths can be used here; says why not,
// path by path.
absl::StatusOr<LaneContext> MakeLaneContext(
    const BackendRegistry& backends, const std::vector<std::string>& paths,
    const std::set<std::string>& without, absl::string_view name);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANE_CONTEXT_H_
