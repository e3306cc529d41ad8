#ifndef TENSORFERRY_TRANSFER_PIECES_H_
#define TENSORFERRY_TRANSFER_PIECES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace tensorferry {

// No body has more pieces than this, however small they are.
inline constexpr size_t kMaxPiecesInBody = 64;

// Nor is one longer, unless a test wants it shorter.
inline constexpr uint64_t kPieceBytes = uint64_t{8} << 20;

// No buffer that is lent is shorter.
inline constexpr uint64_t kSmallestLent = uint64_t{256} << 10;

// Part of a buffer in one step of a transfer.
struct Piece {
  int buffer = 0;
  uint64_t offset = 0;
  uint64_t nbytes = 0;

  friend bool operator==(const Piece&, const Piece&) = default;
};

// One step of a transfer: some pieces that travel together.
struct Body {
  size_t first = 0;  // in BodyCut::pieces
  size_t count = 0;
  uint64_t nbytes = 0;  // of all its pieces
};

struct BodyCut {
  std::vector<Piece> pieces;
  std::vector<Body> bodies;
  size_t first_lent = 0;  // body; those before carry nothing that is lent

  absl::Span<const Piece> PiecesOf(size_t body) const {
    return absl::MakeConstSpan(pieces).subspan(bodies[body].first,
                                               bodies[body].count);
  }
};

// How often a body was sent before.
struct BodyAttempt {
  uint32_t body = 0;
  uint32_t attempt = 0;

  friend bool operator==(const BodyAttempt&, const BodyAttempt&) = default;
};

// Cuts the buffers of a message, in order, into bodies of at most `body_bytes`
// (not 0) and kMaxPiecesInBody pieces. Empty buffers have no piece. Those that
// are lent (numbers in growing order) come last, whole: their bodies may be
// longer. Both sides of a link compute this from the header, and so agree on
// what each body carries without a word about it on the wire.
BodyCut CutIntoBodies(absl::Span<const uint64_t> buffer_nbytes,
                      uint64_t body_bytes,
                      absl::Span<const uint32_t> lent = {});

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_PIECES_H_
