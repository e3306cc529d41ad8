// Internal to cuda/: a session's part of a channel that sessions share.
#ifndef TENSORFERRY_CUDA_SESSION_CHANNEL_H_
#define TENSORFERRY_CUDA_SESSION_CHANNEL_H_

#include <tensorpipe/channel/context.h>

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "base/executor.h"
#include "cuda/shared_channel.h"

namespace tensorferry {

// See SharedChannel::MakeSession.
std::shared_ptr<tensorpipe::channel::Context> MakeSessionChannel(
    SharedChannel* shared, SharedChannel::Session session);

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_SESSION_CHANNEL_H_
