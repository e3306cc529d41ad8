#ifndef TENSORFERRY_CHANNEL_LOCAL_FRAME_H_
#define TENSORFERRY_CHANNEL_LOCAL_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

using MemoryNonce = std::array<uint8_t, 16>;

// What two ends of a local channel say to each other over its connection, in
// frames of one size. Buffers are numbered from 0 in each direction; those
// without bytes take a number and no frame.
//
//   both:      HELLO, first and once
//   sender:    OFFER (number, length, where the bytes lie), or LOAN, which is
//              an OFFER and says where in one of its arenas that is
//   receiver:  DONE (it has read them), or STREAM (send them), or WANT (copy
//              them to that place in one of my arenas), or, to a LOAN, LEASED
//              (it has them where they are)
//   sender:    after STREAM, DATA (number, length of the piece) and the piece
//              itself, until all are sent; after WANT, PLACED (they are there),
//              or CANNOT, and the offer stands as before, but for WANT. Before
//              that PLACING (number, how many of the first bytes are there)
//              any number of times, each for more and never for all
//   receiver:  ARENA (number of its place, length), with its descriptor or why
//              it has none, before the first WANT for it. Whatever had that
//              place is gone
//   sender:    LEND, the same before the first LOAN of what is in it
//
// A further strategy is a further answer to OFFER.
struct LocalFrame {
  enum class Kind : uint8_t {
    kHello = 1,
    kOffer = 2,
    kDone = 3,
    kStream = 4,
    kData = 5,
    kArena = 6,
    kWant = 7,
    kPlaced = 8,
    kCannot = 9,
    kLend = 10,
    kLoan = 11,
    kLeased = 12,
    kPlacing = 13,
  };
  Kind kind = Kind::kHello;
  // Its place: ARENA and WANT, LEND and LOAN.
  uint8_t arena = 0;
  uint64_t number = 0;  // of the buffer; not HELLO, ARENA, LEND
  // Of the buffer, DATA's piece, what is there of it (PLACING), or the arena;
  // at least 1; not HELLO.
  uint64_t length = 0;
  // In the memory of who says it. HELLO: of its nonce; 0: it cannot be read.
  // OFFER and LOAN: of the buffer. WANT: from the arena's start.
  uint64_t address = 0;
  uint64_t offset = 0;     // LOAN: of the buffer, from the arena's start
  MemoryNonce nonce = {};  // HELLO with an address
  // Why not: HELLO without an address, STREAM, CANNOT, ARENA and LEND without
  // the descriptor. Printable ASCII.
  std::string reason;

  friend bool operator==(const LocalFrame&, const LocalFrame&) = default;
};

constexpr size_t kLocalFrameBytes = 256;
constexpr size_t kLocalReasonBytes = 208;
// That a channel hands over: of its pool, and to lend.
constexpr size_t kMostArenas = 64;
constexpr size_t kMostLentArenas = 16;

using LocalFrameBytes = std::array<uint8_t, kLocalFrameBytes>;

// Cuts `reason` to what fits and replaces what is not printable.
LocalFrameBytes EncodeLocalFrame(const LocalFrame& frame);

// What EncodeLocalFrame could have made, and nothing else; for bytes of a peer.
// DATA_LOSS: another length, an unknown kind, a field out of its bounds or one
// that the kind does not have.
absl::StatusOr<LocalFrame> DecodeLocalFrame(absl::string_view bytes);

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_LOCAL_FRAME_H_
