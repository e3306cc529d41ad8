#ifndef TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_
#define TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "channel/buffer_queue.h"
#include "channel/carried.h"
#include "channel/local_frame.h"

namespace tensorferry {

// The sending direction of a local channel: pure, without I/O or threads. Each
// buffer is offered; the peer reads it, asks for it in the stream, wants it
// copied into its pool, or takes it where it is. Copies run one at a time.
// Buffers end in the order of Add.
class OfferedBuffers {
 public:
  static constexpr size_t kPiecesInTransport = 2;

  struct Piece {
    LocalFrame header;
    const void* data = nullptr;
  };
  // A piece of a buffer to copy to `offset` of what has the place `arena`;
  // `before` of its bytes are there already.
  struct Copy {
    uint64_t number = 0, before = 0;
    uint8_t arena = 0;
    uint64_t offset = 0;
    const void* from = nullptr;
    uint64_t length = 0;
  };

  // `piece_bytes`: of one DATA frame at most; answers of the other direction
  // wait behind so much. `copy_bytes`: of one Copy.
  OfferedBuffers(uint64_t piece_bytes, uint64_t copy_bytes)
      : piece_bytes_(piece_bytes), copy_bytes_(copy_bytes) {}

  // Where a buffer lies in an arena that the peer may read.
  struct Loan {
    uint8_t arena = 0;
    uint64_t offset = 0;
  };

  // What to tell the peer; nullopt: nothing, it has no bytes. `loan`: where
  // what is lent lies, or why the peer cannot have it there; nullopt: it is not
  // lent.
  std::optional<LocalFrame> Add(
      const void* data, uint64_t length,
      std::optional<absl::StatusOr<Loan>> loan = std::nullopt);

  // DONE, STREAM, WANT or LEASED of the peer. DATA_LOSS: it answers no open
  // offer, wants what it was told CANNOT about, or has leased what is not lent.
  absl::Status OnAnswer(const LocalFrame& answer);

  // What to copy now; nullopt: nothing, or one is under way.
  std::optional<Copy> NextCopy();
  // What to tell the peer: PLACED after the last piece.
  std::optional<LocalFrame> OnCopied();
  // The same if it was not possible: CANNOT. `why` is not OK.
  LocalFrame OnCannotCopy(const absl::Status& why);

  // The next piece for the stream; nullopt: none now.
  std::optional<Piece> NextPiece();
  // The transport has taken the oldest piece and let go of it.
  void OnPieceWritten();

  // The oldest buffer once it has ended, after which it is forgotten. Empty
  // ones come too.
  std::optional<Carried> TakeEnded() { return buffers_.TakeEnded(); }
  // Bytes of those that are not forgotten.
  uint64_t nbytes() const { return buffers_.nbytes(); }

 private:
  enum class State { kOffered, kPlacing, kStreaming, kEnded };
  struct Entry {
    Carried carried;
    State state = State::kOffered;
    bool lent = false;
    uint64_t cut = 0, written = 0;  // bytes of the stream
    uint8_t arena = 0;              // of WANT
    uint64_t offset = 0, placed = 0;

    bool ended() const { return state == State::kEnded; }
  };
  struct InTransport {
    uint64_t number = 0, length = 0;
  };

  const uint64_t piece_bytes_, copy_bytes_;
  BufferQueue<Entry> buffers_;
  uint64_t uncut_ = 0;  // no earlier one has more pieces
  std::deque<InTransport> pieces_;
  std::deque<uint64_t> to_place_;  // as they were wanted
  uint64_t copying_ = 0;           // bytes of the first of them
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_
