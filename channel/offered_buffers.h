#ifndef TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_
#define TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "absl/status/status.h"
#include "channel/buffer_queue.h"
#include "channel/carried.h"
#include "channel/local_frame.h"

namespace tensorferry {

// The sending direction of a local channel: pure, without I/O or threads. Each
// buffer is offered; the peer reads it, or asks for it in the stream. Buffers
// end in the order of Add.
class OfferedBuffers {
 public:
  static constexpr size_t kPiecesInTransport = 2;

  struct Piece {
    LocalFrame header;
    const void* data = nullptr;
  };

  // `piece_bytes`: of one DATA frame at most; answers of the other direction
  // wait behind so much.
  explicit OfferedBuffers(uint64_t piece_bytes) : piece_bytes_(piece_bytes) {}

  // What to tell the peer; nullopt: nothing, it has no bytes.
  std::optional<LocalFrame> Add(const void* data, uint64_t length);

  // DONE or STREAM of the peer. DATA_LOSS: it does not answer the oldest open
  // offer.
  absl::Status OnAnswer(const LocalFrame& answer);

  // The next piece for the stream; nullopt: none now.
  std::optional<Piece> NextPiece();
  // The transport has taken the oldest piece and let go of it.
  void OnPieceWritten();

  // The oldest buffer once it has ended, after which it is forgotten. Empty
  // ones come too.
  std::optional<Carried> TakeEnded() { return buffers_.TakeEnded(); }

 private:
  enum class State { kOffered, kStreaming, kEnded };
  struct Entry {
    Carried carried;
    State state = State::kOffered;
    uint64_t cut = 0, written = 0;  // bytes of the stream

    bool ended() const { return state == State::kEnded; }
  };
  struct InTransport {
    uint64_t number = 0, length = 0;
  };

  const uint64_t piece_bytes_;
  BufferQueue<Entry> buffers_;
  uint64_t open_ = 0;   // no earlier one waits for an answer
  uint64_t uncut_ = 0;  // no earlier one has more pieces
  std::deque<InTransport> pieces_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_OFFERED_BUFFERS_H_
