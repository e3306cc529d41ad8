#ifndef TENSORFERRY_TESTS_CUDA_LYING_CHANNEL_H_
#define TENSORFERRY_TESTS_CUDA_LYING_CHANNEL_H_

#include <string>

#include "transfer/backend_registry.h"

namespace tensorferry {

// One of tensorpipe's CUDA channels, as a lying process would use it.
//
// cuda_ipc: a packet says `lie` of the chunk that it is about: "slot",
// "device", "untold" (no outbox came), "twice" (it came before), "process" (the
// outbox is of another one), "memory" and "event" (no such handles), "small"
// (memory that is too small), "name" (from the second outbox on: the process
// calls itself otherwise, and there is no such memory).
//
// cuda_xth: devices describe themselves as `lie`.
ChannelBackend LyingChannel(const std::string& channel, const std::string& lie);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_LYING_CHANNEL_H_
