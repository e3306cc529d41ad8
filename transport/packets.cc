#include "transport/packets.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transport/nop_scanner.h"

namespace tensorferry {
namespace {

// A brochure lists transports, channels and devices of one process.
constexpr size_t kLongestBrochure = 64 << 10;
// Payloads, and tensors, of one message.
constexpr uint64_t kMostParts = 1 << 16;

absl::Status Malformed(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("tensorpipe's ", std::string(what), " is malformed"));
}

bool ReadString(NopScanner& in, std::string& out) {
  absl::string_view value;
  if (!in.String(value)) return false;
  out = std::string(value);
  return true;
}

bool ReadDevice(NopScanner& in, PipeDevice& out) {
  return in.Structure(2) && ReadString(in, out.first) &&
         in.Signed(out.second) && out.second >= INT32_MIN &&
         out.second <= INT32_MAX;
}

// Calls `read(in, key, value)` for each entry. Like tensorpipe's own reading,
// the first of equal keys wins.
template <class Key, class Value, class ReadEntry>
bool ReadMap(NopScanner& in, std::map<Key, Value>& out, ReadEntry read) {
  uint64_t entries;
  if (!in.Map(entries)) return false;
  for (uint64_t i = 0; i < entries; ++i) {
    Key key;
    Value value;
    if (!read(key, value)) return false;
    out.emplace(std::move(key), std::move(value));
  }
  return true;
}

bool ReadChannels(NopScanner& in, ChannelDescriptors& out) {
  return ReadMap(in, out, [&](std::string& name, DeviceDescriptors& devices) {
    return ReadString(in, name) &&
           ReadMap(in, devices, [&](PipeDevice& device, std::string& text) {
             return ReadDevice(in, device) && ReadString(in, text);
           });
  });
}

// Those of the CUDA channels are packets in themselves, which tensorpipe reads
// without a look at their end; but for cuda_xth's, which it compares.
bool DescriptorsAreSafe(const ChannelDescriptors& channels) {
  for (const auto& [channel, devices] : channels) {
    if (!absl::StartsWith(channel, "cuda") || channel == "cuda_xth") continue;
    for (const auto& [device, descriptor] : devices) {
      if (!CheckWellFormed(descriptor).ok()) return false;
    }
  }
  return true;
}

bool ReadNumbers(NopScanner& in, uint64_t& count) {
  absl::string_view bytes;
  if (!in.Binary(bytes) || bytes.size() % sizeof(uint64_t) != 0) return false;
  count = bytes.size() / sizeof(uint64_t);
  return true;
}

bool ReadPair(NopScanner& in, std::pair<PipeDevice, PipeDevice>& pair) {
  uint64_t elements;
  return in.Array(elements) && elements == 2 && ReadDevice(in, pair.first) &&
         ReadDevice(in, pair.second);
}

bool SkipString(NopScanner& in) {
  absl::string_view value;
  return in.String(value);
}

bool SkipPayload(NopScanner& in) {
  uint64_t length;
  return in.Structure(2) && in.Unsigned(length) && SkipString(in);
}

absl::Status CheckTensor(NopScanner& in, const DevicePairs& pairs) {
  uint64_t length;
  PipeDevice source, target;
  if (!in.Structure(4) || !in.Unsigned(length) || !ReadDevice(in, source)) {
    return Malformed("descriptor");
  }
  if (in.Nil()) {
    return absl::DataLossError("a tensor without a target device");
  }
  if (!ReadDevice(in, target) || !SkipString(in)) {
    return Malformed("descriptor");
  }
  if (pairs.contains({source, target})) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "a tensor from ", source.first, ":", source.second, " to ", target.first,
      ":", target.second, ", for which no channel was agreed"));
}

}  // namespace

absl::StatusOr<HelloPacket> ReadHello(absl::string_view packet) {
  NopScanner in(packet);
  int64_t index;
  HelloPacket hello;
  if (!in.Variant(index) || !in.Structure(1)) return Malformed("hello");
  hello.opens_pipe = index == 0;
  const bool read = index == 0   ? SkipString(in)
                    : index == 1 ? in.Unsigned(hello.registration_id)
                                 : false;
  if (!read || !in.at_end()) return Malformed("hello");
  return hello;
}

absl::StatusOr<Brochure> ReadBrochure(absl::string_view packet) {
  NopScanner in(packet);
  Brochure out;
  const auto read_transport = [&](std::string& name, std::string& domain) {
    return ReadString(in, name) && ReadString(in, domain);
  };
  if (packet.size() > kLongestBrochure || !in.Structure(2) ||
      !ReadMap(in, out.transports, read_transport) ||
      !ReadChannels(in, out.channels) || !in.at_end() ||
      !DescriptorsAreSafe(out.channels)) {
    return Malformed("brochure");
  }
  return out;
}

absl::StatusOr<BrochureAnswer> ReadBrochureAnswer(absl::string_view packet) {
  NopScanner in(packet);
  BrochureAnswer out;
  const auto read_transport_id = [&](uint64_t& purpose, uint64_t& id) {
    return in.Unsigned(purpose) && in.Unsigned(id);
  };
  const auto read_channel_ids = [&](std::string& name, uint64_t& count) {
    return ReadString(in, name) && ReadNumbers(in, count);
  };
  const auto read_choice = [&](std::pair<PipeDevice, PipeDevice>& devices,
                               std::string& channel) {
    return ReadPair(in, devices) && ReadString(in, channel);
  };
  if (packet.size() > kLongestBrochure || !in.Structure(7) ||
      !ReadString(in, out.transport) || !ReadString(in, out.address) ||
      !ReadMap(in, out.transport_ids, read_transport_id) ||
      !ReadString(in, out.domain) ||
      !ReadMap(in, out.channel_ids, read_channel_ids) ||
      !ReadChannels(in, out.channels) ||
      !ReadMap(in, out.channel_of, read_choice) || !in.at_end() ||
      !DescriptorsAreSafe(out.channels)) {
    return Malformed("answer to a brochure");
  }
  return out;
}

absl::Status CheckDescriptor(absl::string_view packet,
                             const DevicePairs& pairs) {
  NopScanner in(packet);
  uint64_t payloads, tensors;
  if (!in.Structure(3) || !SkipString(in) || !in.Array(payloads) ||
      payloads > kMostParts) {
    return Malformed("descriptor");
  }
  for (uint64_t i = 0; i < payloads; ++i) {
    if (!SkipPayload(in)) return Malformed("descriptor");
  }
  if (!in.Array(tensors) || tensors > kMostParts) {
    return Malformed("descriptor");
  }
  for (uint64_t i = 0; i < tensors; ++i) {
    absl::Status status = CheckTensor(in, pairs);
    if (!status.ok()) return status;
  }
  return in.at_end() ? absl::OkStatus() : Malformed("descriptor");
}

absl::Status CheckWellFormed(absl::string_view packet) {
  NopScanner in(packet);
  return in.Skip() && in.at_end() ? absl::OkStatus() : Malformed("packet");
}

}  // namespace tensorferry
