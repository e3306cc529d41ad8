#include "control/grpc_bounds.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>

namespace tensorferry {
namespace {

constexpr int kHandshakeTimeoutMs = 10'000;
constexpr int kIdleMs = 300'000;  // of a connection without calls
constexpr size_t kMostBytes = size_t{256} << 20;
constexpr int kMostRequestBytes = 4 << 20;
// Reflection is synchronous: each of its streams has a thread while it is open.
constexpr int kMostThreads = 32;

constexpr absl::Duration kShortestSilence = absl::Seconds(3);
constexpr absl::Duration kLongestSilence = absl::Minutes(1);
constexpr int kClientSilenceMs = 20'000;
// Callers that ask more often than this are closed on.
constexpr int kShortestPingMs = 5'000;

// Both sets of arguments have the same names.
template <class SetInt>
void SetKeepAlive(int silence_ms, SetInt set) {
  set(GRPC_ARG_KEEPALIVE_TIME_MS, silence_ms);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, silence_ms);
  set(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // any number
}

}  // namespace

void AllowKeepAlive(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kShortestPingMs);
}

void BoundServer(grpc::ServerBuilder& builder, int max_calls,
                 absl::Duration lease) {
  grpc::ResourceQuota quota("tensorferry");
  builder.SetResourceQuota(
      quota.Resize(kMostBytes).SetMaxThreads(kMostThreads));
  // One queue of synchronous calls for each core would want a thread of each.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetMaxReceiveMessageSize(kMostRequestBytes);
  const auto set = [&builder](const char* name, int value) {
    builder.AddChannelArgument(name, value);
  };
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, max_calls);
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  AllowKeepAlive(builder);
  SetKeepAlive(static_cast<int>(absl::ToInt64Milliseconds(
                   std::clamp(lease, kShortestSilence, kLongestSilence))),
               set);
}

void KeepAlive(grpc::ChannelArguments& arguments) {
  SetKeepAlive(kClientSilenceMs, [&arguments](const char* name, int value) {
    arguments.SetInt(name, value);
  });
}

}  // namespace tensorferry
