#ifndef TENSORFERRY_TRANSPORT_PACKET_GATE_H_
#define TENSORFERRY_TRANSPORT_PACKET_GATE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transport/packets.h"

namespace tensorferry {

// Stands before the packets of one connection and keeps from tensorpipe those
// that it does not survive: it indexes, looks up and throws by what they say.
// Learns from what this side writes what the other may answer.
class PacketGate {
 public:
  // `transport`: the name under which tensorpipe knows the transport; `domain`:
  // its domain descriptor.
  PacketGate(bool accepted, std::string transport, std::string domain);

  // FAILED_PRECONDITION: the two sides have no channel in common.
  absl::Status OnWrite(absl::string_view packet);
  // How many of the packets that were written open a pipe or join one; a peer
  // that has proved nothing may hear them.
  int opening_packets() const { return opening_packets_; }
  // DATA_LOSS: must not reach tensorpipe.
  absl::Status OnRead(absl::string_view packet);

 private:
  // What comes next that needs more than to be well formed.
  enum class Next { kHello, kBrochure, kAnswer, kDescriptors, kAny };

  absl::Status CheckBrochure(const Brochure& brochure) const;
  absl::Status CheckAnswer(const BrochureAnswer& answer) const;

  const std::string transport_;
  const std::string domain_;
  Next read_ = Next::kAny;
  Next write_ = Next::kAny;
  int opening_packets_ = 0;
  Brochure brochure_;  // ours, of the dialing side
  DevicePairs pairs_;  // what may come in
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_PACKET_GATE_H_
