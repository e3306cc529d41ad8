#include "control/channel.h"

#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace tensorferry {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           int max_answer_bytes) {
  grpc::ChannelArguments arguments;
  // A proxy of the environment is for the web, not for peers.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Otherwise a peer that was away shortly stays unavailable to new clients
  // for as long as older ones back off.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetMaxReceiveMessageSize(max_answer_bytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace tensorferry
