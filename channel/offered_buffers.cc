#include "channel/offered_buffers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {

std::optional<LocalFrame> OfferedBuffers::Add(
    const void* data, uint64_t length,
    std::optional<absl::StatusOr<Loan>> loan) {
  const bool lent = loan && loan->ok();
  const uint64_t number = buffers_.Add(
      {.carried = {.buffer = data,
                   .length = length,
                   .not_lease = loan ? loan->status() : absl::OkStatus()},
       .state = length == 0 ? State::kEnded : State::kOffered,
       .lent = lent});
  if (length == 0) return std::nullopt;
  LocalFrame offer{.kind = LocalFrame::Kind::kOffer,
                   .number = number,
                   .length = length,
                   .address = reinterpret_cast<uint64_t>(data)};
  if (lent) {
    offer.kind = LocalFrame::Kind::kLoan;
    offer.arena = (*loan)->arena;
    offer.offset = (*loan)->offset;
  }
  return offer;
}

absl::Status OfferedBuffers::OnAnswer(const LocalFrame& answer) {
  if (!buffers_.Has(answer.number) ||
      buffers_.At(answer.number).state != State::kOffered ||
      buffers_.At(answer.number).carried.length != answer.length) {
    return absl::DataLossError(
        absl::StrCat("local channel: the peer answers buffer ", answer.number,
                     " of ", answer.length, " bytes, which is no open offer"));
  }
  Entry& entry = buffers_.At(answer.number);
  // The two could go on like this without end.
  if (answer.kind == LocalFrame::Kind::kWant && !entry.carried.not_pool.ok()) {
    return absl::DataLossError(absl::StrCat(
        "local channel: the peer wants buffer ", answer.number,
        " again, to which it was told: ", entry.carried.not_pool.message()));
  }
  if (answer.kind == LocalFrame::Kind::kLeased && !entry.lent) {
    return absl::DataLossError(
        absl::StrCat("local channel: the peer has leased buffer ",
                     answer.number, ", which was not lent"));
  }
  if (answer.kind != LocalFrame::Kind::kLeased && entry.lent) {
    entry.carried.not_lease = absl::FailedPreconditionError(
        "the receiver does not take it where it is");
  }
  switch (answer.kind) {
    case LocalFrame::Kind::kLeased:
      entry.state = State::kEnded;
      entry.carried.strategy = "lease";
      break;
    case LocalFrame::Kind::kDone:
      entry.state = State::kEnded;
      entry.carried.strategy = "vm";
      break;
    case LocalFrame::Kind::kWant:
      entry.state = State::kPlacing;
      entry.arena = answer.arena;
      entry.offset = answer.address;
      to_place_.push_back(answer.number);
      break;
    default:
      entry.state = State::kStreaming;
      entry.carried.strategy = "stream";
      entry.carried.not_vm = absl::FailedPreconditionError(answer.reason);
  }
  return absl::OkStatus();
}

std::optional<OfferedBuffers::Copy> OfferedBuffers::NextCopy() {
  if (copying_ > 0 || to_place_.empty()) return std::nullopt;
  const uint64_t number = to_place_.front();
  const Entry& entry = buffers_.At(number);
  copying_ = std::min(copy_bytes_, entry.carried.length - entry.placed);
  return Copy{
      .number = number,
      .before = entry.placed,
      .arena = entry.arena,
      .offset = entry.offset + entry.placed,
      .from = static_cast<const char*>(entry.carried.buffer) + entry.placed,
      .length = copying_};
}

std::optional<LocalFrame> OfferedBuffers::OnCopied() {
  const uint64_t number = to_place_.front();
  Entry& entry = buffers_.At(number);
  entry.placed += std::exchange(copying_, 0);
  if (entry.placed < entry.carried.length) return std::nullopt;
  to_place_.pop_front();
  entry.state = State::kEnded;
  entry.carried.strategy = "pool";
  return LocalFrame{.kind = LocalFrame::Kind::kPlaced,
                    .number = number,
                    .length = entry.carried.length};
}

LocalFrame OfferedBuffers::OnCannotCopy(const absl::Status& why) {
  const uint64_t number = to_place_.front();
  to_place_.pop_front();
  copying_ = 0;
  Entry& entry = buffers_.At(number);
  entry.state = State::kOffered;
  entry.placed = 0;
  entry.carried.not_pool = absl::FailedPreconditionError(why.message());
  return LocalFrame{.kind = LocalFrame::Kind::kCannot,
                    .number = number,
                    .length = entry.carried.length,
                    .reason = std::string(why.message())};
}

std::optional<OfferedBuffers::Piece> OfferedBuffers::NextPiece() {
  if (pieces_.size() >= kPiecesInTransport) return std::nullopt;
  uncut_ = buffers_.FirstWhere(uncut_, [](const Entry& entry) {
    return entry.state == State::kStreaming ? entry.cut < entry.carried.length
                                            : !entry.ended();
  });
  if (uncut_ == buffers_.end()) return std::nullopt;
  Entry& entry = buffers_.At(uncut_);
  if (entry.state != State::kStreaming) return std::nullopt;
  const uint64_t length =
      std::min(piece_bytes_, entry.carried.length - entry.cut);
  Piece piece{
      {.kind = LocalFrame::Kind::kData, .number = uncut_, .length = length},
      static_cast<const char*>(entry.carried.buffer) + entry.cut};
  entry.cut += length;
  pieces_.push_back({uncut_, length});
  return piece;
}

void OfferedBuffers::OnPieceWritten() {
  const InTransport piece = pieces_.front();
  pieces_.pop_front();
  Entry& entry = buffers_.At(piece.number);
  entry.written += piece.length;
  if (entry.written == entry.carried.length) entry.state = State::kEnded;
}

}  // namespace tensorferry
