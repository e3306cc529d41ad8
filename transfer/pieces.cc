#include "transfer/pieces.h"

#include <algorithm>

namespace tensorferry {
namespace {

void Append(Piece piece, uint64_t body_bytes, BodyCut& cut) {
  bool fits = !cut.bodies.empty() &&
              cut.bodies.back().count < kMaxPiecesInBody &&
              piece.nbytes <= body_bytes - cut.bodies.back().nbytes;
  if (!fits) cut.bodies.push_back({cut.pieces.size(), 0, 0});
  ++cut.bodies.back().count;
  cut.bodies.back().nbytes += piece.nbytes;
  cut.pieces.push_back(piece);
}

}  // namespace

BodyCut CutIntoBodies(absl::Span<const uint64_t> buffer_nbytes,
                      uint64_t body_bytes, absl::Span<const uint32_t> lent) {
  BodyCut cut;
  auto next_lent = lent.begin();
  for (uint32_t buffer = 0; buffer < buffer_nbytes.size(); ++buffer) {
    if (next_lent != lent.end() && *next_lent == buffer) {
      ++next_lent;
      continue;
    }
    uint64_t total = buffer_nbytes[buffer];
    for (uint64_t offset = 0; offset < total;) {
      uint64_t nbytes = std::min(body_bytes, total - offset);
      Append({static_cast<int>(buffer), offset, nbytes}, body_bytes, cut);
      offset += nbytes;
    }
  }
  cut.first_lent = cut.bodies.size();
  for (const uint32_t buffer : lent) {
    const Piece piece{static_cast<int>(buffer), 0, buffer_nbytes[buffer]};
    if (piece.nbytes == 0) continue;
    // The first of them begins a body.
    if (cut.bodies.size() == cut.first_lent) {
      cut.bodies.push_back({cut.pieces.size(), 0, 0});
    }
    Append(piece, UINT64_MAX, cut);
  }
  return cut;
}

}  // namespace tensorferry
