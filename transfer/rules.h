#ifndef TENSORFERRY_TRANSFER_RULES_H_
#define TENSORFERRY_TRANSFER_RULES_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/carried_as.h"
#include "base/limits.h"
#include "base/placement.h"
#include "serialization/streams.h"
#include "transfer/pieces.h"

namespace tensorferry {

// What transfer has to know of a session's plan, as seen from one side.
// session/ fills it in; transfer knows nothing of negotiation.
struct TransferRules {
  std::string session_id;   // for errors
  std::string peer_name;    // for errors
  std::string plan_digest;  // every header must carry it
  int wire_version = 1;
  Placement outgoing, incoming;
  Limits limits;
  std::vector<std::string> paths;  // allowed, best first: "unix/local"
  bool digests = true;
  StreamSet send_streams, receive_streams;
  CarriedDevices own_carried, peer_carried;
  // Pairs (one's own device, the peer's) that cross as memory of two hosts.
  std::set<std::pair<DeviceId, DeviceId>> through_host;
  // Sizes of steps, the same on both sides by protocol version 1.
  uint64_t inline_bytes = 64
                          << 10;  // a message up to this goes with its header
  uint64_t piece_bytes = kPieceBytes;  // no step of a transfer is longer
};

// How a pair of devices crosses.
struct Crossing {
  DeviceId own, peer;   // what tensorpipe takes its memory for
  bool copied = false;  // on this side, to host memory or from it
};
Crossing CrossingOf(const TransferRules& rules, const DeviceId& own,
                    const DeviceId& peer);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_RULES_H_
