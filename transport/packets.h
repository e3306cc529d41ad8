#ifndef TENSORFERRY_TRANSPORT_PACKETS_H_
#define TENSORFERRY_TRANSPORT_PACKETS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// The packets with which tensorpipe opens a pipe, as far as what they say can
// hurt the one who is told. Reading is strict: DATA_LOSS for everything that
// tensorpipe would not write.

// The first one on each connection.
struct HelloPacket {
  bool opens_pipe = false;       // else it belongs to a pipe that is opening
  uint64_t registration_id = 0;  // which says to which
};
absl::StatusOr<HelloPacket> ReadHello(absl::string_view packet);

using PipeDevice = std::pair<std::string, int64_t>;  // "cuda", 1
using DeviceDescriptors = std::map<PipeDevice, std::string>;
using ChannelDescriptors = std::map<std::string, DeviceDescriptors>;

// What the dialing side offers.
struct Brochure {
  std::map<std::string, std::string> transports;  // to domain descriptors
  ChannelDescriptors channels;
};
absl::StatusOr<Brochure> ReadBrochure(absl::string_view packet);

// What the accepting side makes of it.
struct BrochureAnswer {
  std::string transport;
  std::string address;
  std::map<uint64_t, uint64_t> transport_ids;
  std::string domain;
  std::map<std::string, uint64_t> channel_ids;  // how many each channel has
  ChannelDescriptors channels;
  // By device of the answering side, then of the other.
  std::map<std::pair<PipeDevice, PipeDevice>, std::string> channel_of;
};
absl::StatusOr<BrochureAnswer> ReadBrochureAnswer(absl::string_view packet);

// By source device, then target device.
using DevicePairs = std::set<std::pair<PipeDevice, PipeDevice>>;
// What goes ahead of a message. DATA_LOSS: malformed, too many parts, or a
// tensor for a pair of devices that is not one of `pairs`.
absl::Status CheckDescriptor(absl::string_view packet,
                             const DevicePairs& pairs);

// Whether it is one whole value, of any kind.
absl::Status CheckWellFormed(absl::string_view packet);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_PACKETS_H_
