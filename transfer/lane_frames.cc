#include "transfer/lane_frames.h"

#include <memory>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

constexpr size_t kShortFrame = 16 << 10;
constexpr size_t kFirstFrame = 64 << 10;

struct Incoming {
  std::string frame, bytes;
};

// Before memory is taken for it.
absl::Status CheckMessage(const tensorpipe::Descriptor& descriptor,
                          const TransferRules& rules, bool greeted) {
  const bool apart = descriptor.metadata.empty();
  const size_t frames = apart ? 1 : 0;
  const auto& payloads = descriptor.payloads;
  const bool shaped = descriptor.tensors.empty() && payloads.size() >= frames &&
                      payloads.size() <= frames + (greeted ? 1 : 0);
  if (!shaped) {
    return absl::InvalidArgumentError(
        absl::StrCat("frame: a message of ", payloads.size(), " payloads and ",
                     descriptor.tensors.size(), " tensors that is none"));
  }
  const size_t most = greeted ? MaxFrameBytes(rules.limits) : kFirstFrame;
  const size_t length = apart ? payloads[0].length : descriptor.metadata.size();
  const size_t behind = payloads.size() == frames ? 0 : payloads.back().length;
  if (length <= most && behind <= rules.inline_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("frame: ", length, " bytes and ", behind,
                   " inline, which passes the limits of ", most, " and ",
                   rules.inline_bytes));
}

// The peer says how much there is to take, within the limits.
absl::Status TakeMemory(const tensorpipe::Descriptor& descriptor,
                        Incoming& incoming,
                        tensorpipe::Allocation& allocation) {
  const auto& payloads = descriptor.payloads;
  const size_t frames = descriptor.metadata.empty() ? 1 : 0;
  return CatchExceptions("taking a frame", [&] {
    for (size_t i = 0; i < payloads.size(); ++i) {
      std::string& into = i < frames ? incoming.frame : incoming.bytes;
      into.resize(payloads[i].length);
      allocation.payloads.push_back({into.data()});
    }
  });
}

absl::StatusOr<Frame> Decode(const std::string& bytes,
                             const TransferRules& rules, size_t behind) {
  absl::StatusOr<Frame> frame = CatchExceptions(
      "reading a frame", [&] { return DecodeFrame(bytes, rules.limits); });
  if (!frame.ok() || behind == 0) return frame;
  auto* header = std::get_if<HeaderFrame>(&*frame);
  if (header != nullptr && header->is_inline) return frame;
  return absl::InvalidArgumentError(absl::StrCat(
      "the peer broke the transfer protocol: ", behind,
      " bytes behind a frame that is no HEADER of an inline message"));
}

}  // namespace

void WriteFrame(Lane& lane, const Frame& frame, FrameIn where,
                std::string inline_bytes, Lane::Written done) {
  struct Outgoing {
    std::string frame, bytes;
  };
  auto outgoing = std::make_unique<Outgoing>();
  // A header is as large as the limits let it be.
  const absl::Status room = CatchExceptions(
      "writing a frame", [&] { outgoing->frame = EncodeFrame(frame); });
  if (!room.ok()) lane.Close(room);  // which drops the write below
  outgoing->bytes = std::move(inline_bytes);
  tensorpipe::Message message;
  if (where == FrameIn::kMetadataIfShort &&
      outgoing->frame.size() <= kShortFrame) {
    message.metadata = std::move(outgoing->frame);
  } else {
    message.payloads.push_back(
        {outgoing->frame.data(), outgoing->frame.size(), ""});
  }
  if (!outgoing->bytes.empty()) {
    message.payloads.push_back(
        {outgoing->bytes.data(), outgoing->bytes.size(), ""});
  }
  lane.Write(std::move(message),
             [outgoing = std::move(outgoing), done = std::move(done)](
                 bool ok) mutable { std::move(done)(ok); });
}

void ReadFrame(Lane& lane, tensorpipe::Descriptor descriptor,
               const TransferRules& rules, bool greeted, FrameHandler handler) {
  auto incoming = std::make_shared<Incoming>();
  tensorpipe::Allocation allocation;
  absl::Status status = CheckMessage(descriptor, rules, greeted);
  if (status.ok()) status = TakeMemory(descriptor, *incoming, allocation);
  if (!status.ok()) return handler(std::move(status), "");
  if (!descriptor.metadata.empty()) {
    incoming->frame = std::move(descriptor.metadata);
  }
  const bool complete = allocation.payloads.empty();
  auto decode = [&rules, incoming, handler = std::move(handler)] {
    absl::StatusOr<Frame> frame =
        Decode(incoming->frame, rules, incoming->bytes.size());
    handler(std::move(frame), std::move(incoming->bytes));
  };
  if (complete) {
    lane.Read(std::move(allocation), [](bool) {});
    return decode();
  }
  lane.Read(std::move(allocation), [decode](bool ok) {
    if (ok) decode();
  });
}

}  // namespace tensorferry
