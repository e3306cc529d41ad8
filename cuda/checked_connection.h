// Internal to cuda/: what stands between a connection and a shared channel.
#ifndef TENSORFERRY_CUDA_CHECKED_CONNECTION_H_
#define TENSORFERRY_CUDA_CHECKED_CONNECTION_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "cuda/shared_channel.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {

// `connection`, whose packets are looked at before the channel gets them, and
// whose callbacks enter the channel through SharedChannel::Enter.
// `receiving_on`: see ChannelChecks::Packets. `on_refused`: why a packet was
// not taken; the connection fails then.
std::shared_ptr<tensorpipe::transport::Connection> MakeChecked(
    std::shared_ptr<tensorpipe::transport::Connection> connection,
    SharedChannel* shared, std::function<int()> receiving_on,
    std::function<void(absl::Status)> on_refused);

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_CHECKED_CONNECTION_H_
