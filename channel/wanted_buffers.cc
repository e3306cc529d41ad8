#include "channel/wanted_buffers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using Kind = LocalFrame::Kind;

absl::Status Lie(absl::string_view what, uint64_t number, uint64_t length) {
  return absl::DataLossError(absl::StrCat("local channel: the peer ", what,
                                          " buffer ", number, " of ", length,
                                          " bytes"));
}

}  // namespace

void WantedBuffers::Add(void* data, uint64_t length) {
  buffers_.Add({.carried = {.buffer = data, .length = length},
                .data = data,
                .state = length == 0 ? State::kEnded : State::kWaiting});
}

absl::Status WantedBuffers::OnOffer(const LocalFrame& offer) {
  if (offer.number < next_offer_) {
    return Lie("offers out of turn", offer.number, offer.length);
  }
  if (offers_.size() >= kMaxOffersWaiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat("local channel: the peer has offered ", kMaxOffersWaiting,
                     " buffers that nobody waits for"));
  }
  next_offer_ = offer.number + 1;
  offers_.push_back({offer.number, offer.length, offer.address});
  return absl::OkStatus();
}

absl::StatusOr<WantedBuffers::Step> WantedBuffers::NextStep(
    const absl::Status& vm) {
  undecided_ = buffers_.FirstWhere(undecided_, [](const Entry& entry) {
    return entry.state == State::kWaiting || entry.state == State::kCopying;
  });
  if (copying_ > 0 || undecided_ == buffers_.end() || offers_.empty())
    return Step();
  const Offer& offer = offers_.front();
  const uint64_t wanted = buffers_.At(undecided_).carried.length;
  if (offer.number != undecided_ || offer.length != wanted) {
    return absl::DataLossError(absl::StrCat(
        "local channel: the peer offers buffer ", offer.number, " of ",
        offer.length, " bytes, want ", undecided_, " of ", wanted));
  }
  return StartOrGoOn(vm);
}

WantedBuffers::Step WantedBuffers::StartOrGoOn(const absl::Status& vm) {
  Entry& entry = buffers_.At(undecided_);
  const Offer offer = offers_.front();
  if (vm.ok()) {
    entry.state = State::kCopying;
    copying_ = std::min(piece_bytes_, offer.length - entry.arrived);
    return {.copy =
                Copy{offer.address + entry.arrived,
                     static_cast<char*>(entry.data) + entry.arrived, copying_}};
  }
  offers_.pop_front();
  entry.state = State::kStreaming;
  entry.arrived = 0;
  entry.carried.strategy = "stream";
  entry.carried.fell_back = absl::FailedPreconditionError(vm.message());
  return {.answer = LocalFrame{.kind = Kind::kStream,
                               .number = offer.number,
                               .length = offer.length,
                               .reason = std::string(vm.message())}};
}

std::optional<LocalFrame> WantedBuffers::OnCopied() {
  Entry& entry = buffers_.At(undecided_);
  entry.arrived += std::exchange(copying_, 0);
  if (entry.arrived < entry.carried.length) return std::nullopt;
  offers_.pop_front();
  entry.state = State::kEnded;
  entry.carried.strategy = "vm";
  return LocalFrame{.kind = Kind::kDone,
                    .number = undecided_,
                    .length = entry.carried.length};
}

void WantedBuffers::OnCopyRefused() { copying_ = 0; }

absl::StatusOr<void*> WantedBuffers::OnData(const LocalFrame& data) {
  streaming_ = buffers_.FirstWhere(
      streaming_, [](const Entry& entry) { return !entry.ended(); });
  if (streaming_ == buffers_.end() ||
      buffers_.At(streaming_).state != State::kStreaming ||
      data.number != streaming_ ||
      data.length > buffers_.At(streaming_).carried.length -
                        buffers_.At(streaming_).arrived) {
    return Lie("sends bytes that were not asked for:", data.number,
               data.length);
  }
  coming_ = data.length;
  return static_cast<char*>(buffers_.At(streaming_).data) +
         buffers_.At(streaming_).arrived;
}

void WantedBuffers::OnDataRead() {
  Entry& entry = buffers_.At(streaming_);
  entry.arrived += std::exchange(coming_, 0);
  if (entry.arrived == entry.carried.length) entry.state = State::kEnded;
}

}  // namespace tensorferry
