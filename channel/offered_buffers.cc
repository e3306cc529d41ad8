#include "channel/offered_buffers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {

std::optional<LocalFrame> OfferedBuffers::Add(const void* data,
                                              uint64_t length) {
  const uint64_t number = first_ + entries_.size();
  entries_.push_back({.carried = {.buffer = data, .length = length}});
  if (length == 0) {
    entries_.back().state = State::kEnded;
    return std::nullopt;
  }
  return LocalFrame{.kind = LocalFrame::Kind::kOffer,
                    .number = number,
                    .length = length,
                    .address = reinterpret_cast<uint64_t>(data)};
}

absl::Status OfferedBuffers::OnAnswer(const LocalFrame& answer) {
  const uint64_t end = first_ + entries_.size();
  open_ = std::max(open_, first_);
  while (open_ < end && At(open_).state != State::kOffered) ++open_;
  if (open_ == end || answer.number != open_ ||
      answer.length != At(open_).carried.length) {
    return absl::DataLossError(absl::StrCat(
        "local channel: the peer answers buffer ", answer.number, " of ",
        answer.length, " bytes, which is not the oldest open offer"));
  }
  Entry& entry = At(open_);
  if (answer.kind == LocalFrame::Kind::kDone) {
    entry.state = State::kEnded;
    entry.carried.strategy = "vm";
  } else {
    entry.state = State::kStreaming;
    entry.carried.strategy = "stream";
    entry.carried.fell_back = absl::FailedPreconditionError(answer.reason);
  }
  return absl::OkStatus();
}

std::optional<OfferedBuffers::Piece> OfferedBuffers::NextPiece() {
  if (pieces_.size() >= kPiecesInTransport) return std::nullopt;
  const uint64_t end = first_ + entries_.size();
  uncut_ = std::max(uncut_, first_);
  auto has_none = [](const Entry& entry) {
    return entry.state == State::kEnded || (entry.state == State::kStreaming &&
                                            entry.cut == entry.carried.length);
  };
  while (uncut_ < end && has_none(At(uncut_))) ++uncut_;
  if (uncut_ == end || At(uncut_).state == State::kOffered) return std::nullopt;

  Entry& entry = At(uncut_);
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
  Entry& entry = At(piece.number);
  entry.written += piece.length;
  if (entry.written == entry.carried.length) entry.state = State::kEnded;
}

std::optional<Carried> OfferedBuffers::TakeEnded() {
  if (entries_.empty() || entries_.front().state != State::kEnded) {
    return std::nullopt;
  }
  Carried carried = std::move(entries_.front().carried);
  entries_.pop_front();
  ++first_;
  return carried;
}

}  // namespace tensorferry
