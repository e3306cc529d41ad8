#include "channel/wanted_buffers.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

using Kind = LocalFrame::Kind;

absl::Status Lie(absl::string_view what, uint64_t number, uint64_t length) {
  return absl::DataLossError(absl::StrCat("local channel: the peer ", what,
                                          " buffer ", number, " of ", length,
                                          " bytes"));
}

}  // namespace

void WantedBuffers::Add(void* data, uint64_t length, Place place) {
  buffers_.Add({.carried = {.buffer = data, .length = length},
                .data = data,
                .place = place,
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
  offers_.push_back({.number = offer.number,
                     .length = offer.length,
                     .address = offer.address,
                     .lent = offer.kind == Kind::kLoan,
                     .arena = offer.arena,
                     .offset = offer.offset});
  return absl::OkStatus();
}

absl::StatusOr<WantedBuffers::Step> WantedBuffers::NextStep(
    const absl::Status& pool, const absl::Status& vm) {
  undecided_ = buffers_.FirstWhere(undecided_, [](const Entry& entry) {
    return entry.state == State::kWaiting || entry.state == State::kCopying;
  });
  if (copying_ > 0 || undecided_ == buffers_.end()) return Step();
  Entry& entry = buffers_.At(undecided_);
  if (!entry.offer) {
    if (offers_.empty()) return Step();
    FERRY_RETURN_IF_ERROR(TakeOffer(entry));
  }
  return StartOrGoOn(pool, vm);
}

absl::Status WantedBuffers::TakeOffer(Entry& entry) {
  const Offer& offer = offers_.front();
  const uint64_t wanted = entry.carried.length;
  if (offer.number != undecided_ || offer.length != wanted) {
    return absl::DataLossError(absl::StrCat(
        "local channel: the peer offers buffer ", offer.number, " of ",
        offer.length, " bytes, want ", undecided_, " of ", wanted));
  }
  entry.offer = offer;
  offers_.pop_front();
  return absl::OkStatus();
}

WantedBuffers::Step WantedBuffers::StartOrGoOn(const absl::Status& pool,
                                               const absl::Status& vm) {
  Entry& entry = buffers_.At(undecided_);
  if (entry.place.lease && entry.offer->lent) {
    entry.state = State::kCopying;
    copied_to_ = undecided_;
    copying_ = entry.carried.length;
    return {.lease = Lease{entry.offer->arena, entry.offer->offset, entry.data,
                           entry.carried.length}};
  }
  if (entry.place.lease) {
    entry.place.lease = false;
    entry.carried.not_lease = absl::FailedPreconditionError(
        "the sender cannot let it be taken where it is");
  }
  if (entry.place.pool && pool.ok()) {
    entry.state = State::kPlacing;
    return {.want = Open{undecided_, entry.data, entry.carried.length}};
  }
  if (entry.place.pool) entry.carried.not_pool = pool;
  if (!vm.ok()) {
    entry.carried.not_vm = absl::FailedPreconditionError(vm.message());
  }
  if (entry.carried.not_vm.ok()) {
    entry.state = State::kCopying;
    copied_to_ = undecided_;
    copying_ = std::min(piece_bytes_, entry.carried.length - entry.arrived);
    return {.copy =
                Copy{entry.offer->address + entry.arrived,
                     static_cast<char*>(entry.data) + entry.arrived, copying_}};
  }
  entry.state = State::kStreaming;
  entry.arrived = 0;
  entry.carried.strategy = "stream";
  return {.answer = LocalFrame{
              .kind = Kind::kStream,
              .number = undecided_,
              .length = entry.carried.length,
              .reason = std::string(entry.carried.not_vm.message())}};
}

bool WantedBuffers::IsPlacing(uint64_t number) {
  return buffers_.Has(number) && buffers_.At(number).state == State::kPlacing;
}

absl::StatusOr<WantedBuffers::Entry*> WantedBuffers::Placing(
    const LocalFrame& answer) {
  if (!IsPlacing(answer.number) ||
      buffers_.At(answer.number).carried.length != answer.length) {
    return Lie("was not asked to place", answer.number, answer.length);
  }
  return &buffers_.At(answer.number);
}

void WantedBuffers::ReadAlong(uint64_t number,
                              std::shared_ptr<CopyReader> reader) {
  buffers_.At(number).reader = std::move(reader);
  to_read_.push_back(number);
}

std::optional<WantedBuffers::Arrived> WantedBuffers::NextArrived() {
  if (reading_ > 0 || to_read_.empty()) return std::nullopt;
  const Entry& entry = buffers_.At(to_read_.front());
  reading_ = std::min(piece_bytes_, entry.arrived - read_);
  if (reading_ == 0) return std::nullopt;
  return Arrived{static_cast<const std::byte*>(entry.data) + read_, reading_,
                 entry.reader};
}

void WantedBuffers::OnRead() {
  Entry& entry = buffers_.At(to_read_.front());
  read_ += std::exchange(reading_, 0);
  if (read_ < entry.carried.length) return;
  entry.reader = nullptr;
  entry.state = State::kEnded;
  to_read_.pop_front();
  read_ = 0;
}

absl::Status WantedBuffers::OnPlacing(const LocalFrame& placing) {
  if (!IsPlacing(placing.number) ||
      placing.length <= buffers_.At(placing.number).arrived ||
      placing.length >= buffers_.At(placing.number).carried.length) {
    return Lie("cannot be placing", placing.number, placing.length);
  }
  buffers_.At(placing.number).arrived = placing.length;
  return absl::OkStatus();
}

absl::Status WantedBuffers::OnPlaced(const LocalFrame& placed) {
  FERRY_ASSIGN_OR_RETURN(Entry * entry, Placing(placed));
  entry->arrived = placed.length;
  entry->state = entry->reader ? State::kReading : State::kEnded;
  entry->carried.strategy = "pool";
  return absl::OkStatus();
}

absl::StatusOr<WantedBuffers::Open> WantedBuffers::OnCannot(
    const LocalFrame& cannot) {
  FERRY_ASSIGN_OR_RETURN(Entry * entry, Placing(cannot));
  if (entry->arrived > 0) {
    return Lie("cannot go on with", cannot.number, cannot.length);
  }
  std::erase(to_read_, cannot.number);
  entry->reader = nullptr;
  entry->state = State::kWaiting;
  entry->place.pool = false;
  entry->carried.not_pool = absl::FailedPreconditionError(cannot.reason);
  undecided_ = std::min(undecided_, cannot.number);
  return Open{cannot.number, entry->data, entry->carried.length};
}

void WantedBuffers::ForEachOpenToPeer(
    absl::FunctionRef<void(const Open&)> call) {
  const auto placing = [](const Entry& entry) {
    return entry.state == State::kPlacing;
  };
  for (uint64_t i = 0; (i = buffers_.FirstWhere(i, placing)) < buffers_.end();
       ++i) {
    const Entry& entry = buffers_.At(i);
    call({i, entry.data, entry.carried.length});
  }
}

LocalFrame WantedBuffers::OnLeased() {
  copying_ = 0;
  Entry& entry = buffers_.At(copied_to_);
  entry.state = State::kEnded;
  entry.carried.strategy = "lease";
  return LocalFrame{.kind = Kind::kLeased,
                    .number = copied_to_,
                    .length = entry.carried.length};
}

void WantedBuffers::OnLeaseRefused(const absl::Status& why) {
  copying_ = 0;
  Entry& entry = buffers_.At(copied_to_);
  entry.state = State::kWaiting;
  entry.place.lease = false;
  entry.carried.not_lease = absl::FailedPreconditionError(why.message());
}

std::optional<LocalFrame> WantedBuffers::OnCopied() {
  Entry& entry = buffers_.At(copied_to_);
  entry.arrived += std::exchange(copying_, 0);
  if (entry.arrived < entry.carried.length) return std::nullopt;
  entry.state = State::kEnded;
  entry.carried.strategy = "vm";
  return LocalFrame{.kind = Kind::kDone,
                    .number = copied_to_,
                    .length = entry.carried.length};
}

void WantedBuffers::OnCopyRefused(const absl::Status& why) {
  copying_ = 0;
  buffers_.At(copied_to_).carried.not_vm =
      absl::FailedPreconditionError(why.message());
}

absl::StatusOr<void*> WantedBuffers::OnData(const LocalFrame& data) {
  // For the peer, what is only to be read along is over.
  streaming_ = buffers_.FirstWhere(streaming_, [](const Entry& entry) {
    return !entry.ended() && entry.state != State::kReading;
  });
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
