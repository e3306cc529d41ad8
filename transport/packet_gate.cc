#include "transport/packet_gate.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

// tensorpipe's name for the connection that carries replies to descriptors.
constexpr uint64_t kReplyConnection = 1;

// How many connections a channel takes; tensorpipe knows, but does not count
// how many it was told of.
uint64_t ConnectionsOf(const std::string& channel) {
  const bool two =
      absl::StartsWith(channel, "cuda") || channel == "cma" || channel == "xth";
  return two ? 2 : 1;
}

absl::Status Lie(absl::string_view what, absl::string_view name) {
  return absl::DataLossError(absl::StrCat("the answer to a brochure ",
                                          std::string(what), " '",
                                          absl::CEscape(name), "'"));
}

}  // namespace

PacketGate::PacketGate(bool accepted, std::string transport, std::string domain)
    : transport_(std::move(transport)),
      domain_(std::move(domain)),
      read_(accepted ? Next::kHello : Next::kAny),
      write_(accepted ? Next::kAny : Next::kHello) {}

absl::Status PacketGate::OnWrite(absl::string_view packet) {
  switch (write_) {
    case Next::kHello: {
      FERRY_ASSIGN_OR_RETURN(HelloPacket hello, ReadHello(packet));
      write_ = hello.opens_pipe ? Next::kBrochure : Next::kAny;
      ++opening_packets_;
      return absl::OkStatus();
    }
    case Next::kBrochure: {
      FERRY_ASSIGN_OR_RETURN(brochure_, ReadBrochure(packet));
      write_ = Next::kAny;
      read_ = Next::kAnswer;
      ++opening_packets_;
      return absl::OkStatus();
    }
    case Next::kAnswer: {
      FERRY_ASSIGN_OR_RETURN(BrochureAnswer answer, ReadBrochureAnswer(packet));
      write_ = Next::kAny;
      read_ = Next::kDescriptors;
      if (answer.channel_of.empty()) {
        return absl::FailedPreconditionError(
            "the peer has no channel that this side has too");
      }
      // By our device, then the peer's: the peer's is the source.
      for (const auto& [devices, channel] : answer.channel_of) {
        pairs_.emplace(devices.second, devices.first);
      }
      return absl::OkStatus();
    }
    case Next::kDescriptors:
    case Next::kAny:
      break;
  }
  return absl::OkStatus();
}

absl::Status PacketGate::OnRead(absl::string_view packet) {
  switch (read_) {
    case Next::kHello: {
      FERRY_ASSIGN_OR_RETURN(HelloPacket hello, ReadHello(packet));
      read_ = hello.opens_pipe ? Next::kBrochure : Next::kAny;
      return absl::OkStatus();
    }
    case Next::kBrochure: {
      FERRY_ASSIGN_OR_RETURN(Brochure brochure, ReadBrochure(packet));
      read_ = Next::kDescriptors;
      write_ = Next::kAnswer;
      return CheckBrochure(brochure);
    }
    case Next::kAnswer: {
      FERRY_ASSIGN_OR_RETURN(BrochureAnswer answer, ReadBrochureAnswer(packet));
      read_ = Next::kDescriptors;
      // By the peer's device, then ours.
      for (const auto& [devices, channel] : answer.channel_of) {
        pairs_.insert(devices);
      }
      return CheckAnswer(answer);
    }
    case Next::kDescriptors:
      return CheckDescriptor(packet, pairs_);
    case Next::kAny:
      break;
  }
  return CheckWellFormed(packet);
}

absl::Status PacketGate::CheckBrochure(const Brochure& brochure) const {
  auto domain = brochure.transports.find(transport_);
  if (domain != brochure.transports.end() && domain->second == domain_) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("a brochure without the transport ",
                                          transport_, " of ", domain_));
}

absl::Status PacketGate::CheckAnswer(const BrochureAnswer& answer) const {
  if (answer.transport != transport_) {
    return Lie("chooses the transport", answer.transport);
  }
  if (answer.domain != domain_) return Lie("is of domain", answer.domain);
  if (!answer.transport_ids.contains(kReplyConnection)) {
    return Lie("misses an id for the transport", answer.transport);
  }
  for (const auto& [channel, devices] : answer.channels) {
    if (!brochure_.channels.contains(channel)) {
      return Lie("has an unknown channel", channel);
    }
    auto ids = answer.channel_ids.find(channel);
    if (ids == answer.channel_ids.end() ||
        ids->second != ConnectionsOf(channel)) {
      return Lie("has the wrong number of ids for the channel", channel);
    }
  }
  for (const auto& [devices, channel] : answer.channel_of) {
    auto theirs = answer.channels.find(channel);
    if (theirs == answer.channels.end() ||
        !theirs->second.contains(devices.first) ||
        !brochure_.channels.at(channel).contains(devices.second)) {
      return Lie("chooses for a pair of devices the channel", channel);
    }
  }
  if (answer.channel_of.empty()) return Lie("has no channel for", transport_);
  return absl::OkStatus();
}

}  // namespace tensorferry
