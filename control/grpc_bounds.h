// Internal to control/. What gRPC may be made to hold, and how it notices that
// the other end of a connection is gone; both sides in one place, so that they
// fit to each other.
#ifndef TENSORFERRY_CONTROL_GRPC_BOUNDS_H_
#define TENSORFERRY_CONTROL_GRPC_BOUNDS_H_

#include "absl/time/time.h"

namespace grpc {
class ChannelArguments;
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

// A connection gets `max_calls` calls at a time, 10 s for its handshake and
// 5 min without a call. One that is silent for `lease` is asked for a sign of
// life, and is closed when none comes for as long again (3 s to 1 min each).
// All of them together get 256 MiB and, for services that are synchronous, 32
// threads: more calls of theirs are RESOURCE_EXHAUSTED, and of those that hold
// memory some are cancelled. A request has at most 4 MiB.
void BoundServer(grpc::ServerBuilder& builder, int max_calls,
                 absl::Duration lease);

// For a server that is somebody else's: it takes signs of life as often as
// KeepAlive asks for them. gRPC by itself ends a connection for less.
void AllowKeepAlive(grpc::ServerBuilder& builder);

// While a call waits for a peer that is silent for 20 s, that one is asked for
// a sign of life; none for 20 s more, and the call is UNAVAILABLE.
void KeepAlive(grpc::ChannelArguments& arguments);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_GRPC_BOUNDS_H_
