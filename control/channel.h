#ifndef TENSORFERRY_CONTROL_CHANNEL_H_
#define TENSORFERRY_CONTROL_CHANNEL_H_

#include <memory>
#include <string>

#include "grpcpp/channel.h"

namespace tensorferry {

// A channel to the control address of a peer, set up as every client of a peer
// wants it. It takes answers of at most `max_answer_bytes`.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           int max_answer_bytes);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CHANNEL_H_
