#include "channel/offered_buffers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {

std::optional<LocalFrame> OfferedBuffers::Add(const void* data,
                                              uint64_t length) {
  const uint64_t number =
      buffers_.Add({.carried = {.buffer = data, .length = length},
                    .state = length == 0 ? State::kEnded : State::kOffered});
  if (length == 0) return std::nullopt;
  return LocalFrame{.kind = LocalFrame::Kind::kOffer,
                    .number = number,
                    .length = length,
                    .address = reinterpret_cast<uint64_t>(data)};
}

absl::Status OfferedBuffers::OnAnswer(const LocalFrame& answer) {
  open_ = buffers_.FirstWhere(
      open_, [](const Entry& entry) { return entry.state == State::kOffered; });
  if (open_ == buffers_.end() || answer.number != open_ ||
      answer.length != buffers_.At(open_).carried.length) {
    return absl::DataLossError(absl::StrCat(
        "local channel: the peer answers buffer ", answer.number, " of ",
        answer.length, " bytes, which is not the oldest open offer"));
  }
  Entry& entry = buffers_.At(open_);
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
  uncut_ = buffers_.FirstWhere(uncut_, [](const Entry& entry) {
    return entry.state == State::kOffered ||
           (entry.state == State::kStreaming &&
            entry.cut < entry.carried.length);
  });
  if (uncut_ == buffers_.end()) return std::nullopt;
  Entry& entry = buffers_.At(uncut_);
  if (entry.state == State::kOffered) return std::nullopt;
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
