#ifndef TENSORFERRY_CHANNEL_WANTED_BUFFERS_H_
#define TENSORFERRY_CHANNEL_WANTED_BUFFERS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "channel/buffer_queue.h"
#include "channel/carried.h"
#include "channel/copy_reader.h"
#include "channel/local_frame.h"

namespace tensorferry {

// The receiving direction of a local channel: pure, without I/O or threads.
// Pairs offers with the buffers that wait for them and decides how the bytes of
// each come: what is lent may stay where it is, and to those that lie in a pool
// the peer is asked to copy, which may be read while they come. Copies run one
// at a time, and so do such reads; the peer may be asked for several buffers
// ahead. Buffers end in the order of Add.
class WantedBuffers {
 public:
  // An honest peer offers ahead of what is wanted here: on a lane of transfer/
  // two bodies, with at most 64 buffers each.
  static constexpr size_t kMaxOffersWaiting = size_t{1} << 12;

  // A piece to read from the peer's memory.
  struct Copy {
    uint64_t from = 0;
    void* to = nullptr;
    uint64_t length = 0;
  };
  // What lies at `offset` of what the peer has lent at the place `arena`.
  struct Lease {
    uint8_t arena = 0;
    uint64_t offset = 0;
    void* to = nullptr;
    uint64_t length = 0;
  };
  // A buffer that the peer may write to.
  struct Open {
    uint64_t number = 0;
    void* data = nullptr;
    uint64_t length = 0;
  };
  // Bytes of a buffer in the pool, which are there, for who reads along.
  struct Arrived {
    const std::byte* data = nullptr;
    uint64_t length = 0;
    std::shared_ptr<CopyReader> reader;
  };
  // At most one of them is set.
  struct Step {
    std::optional<Lease> lease;        // then OnLeased or OnLeaseRefused
    std::optional<Open> want;          // to say WANT for, else OnCannot
    std::optional<Copy> copy;          // then OnCopied or OnCopyRefused
    std::optional<LocalFrame> answer;  // to write
    bool empty() const { return !lease && !want && !copy && !answer; }
  };
  // What can be done at the place of a buffer.
  struct Place {
    bool lease = false;  // memory of the peer's be put there
    bool pool = false;   // the peer be let write there
  };

  explicit WantedBuffers(uint64_t piece_bytes) : piece_bytes_(piece_bytes) {}

  void Add(void* data, uint64_t length, Place place);

  // DATA_LOSS: the offers' numbers do not grow. RESOURCE_EXHAUSTED: too many.
  absl::Status OnOffer(const LocalFrame& offer);

  // What to do now; again until it is empty. `pool`, `vm`: why the peer is not
  // let write to the pool, its memory is not read; OK: it is. DATA_LOSS: an
  // offer is not for the buffer whose turn it is, or of another length.
  absl::StatusOr<Step> NextStep(const absl::Status& pool,
                                const absl::Status& vm);
  // What to tell the peer: LEASED.
  LocalFrame OnLeased();
  // It comes in another way. `why` is not OK.
  void OnLeaseRefused(const absl::Status& why);
  // What to tell the peer: DONE after the last piece.
  std::optional<LocalFrame> OnCopied();
  // The buffer comes in the stream, from its start. `why` is not OK.
  void OnCopyRefused(const absl::Status& why);

  // `reader` reads along what is placed in a buffer that is asked for with WANT
  // now, which ends no earlier.
  void ReadAlong(uint64_t number, std::shared_ptr<CopyReader> reader);
  // What to read now, a piece at most, in the order of WANT; nullopt: nothing,
  // or some is being read. Then OnRead.
  std::optional<Arrived> NextArrived();
  void OnRead();

  // PLACING of the peer; PLACED and CANNOT, after which it stopped writing to
  // the buffer: after CANNOT that one comes in another way. DATA_LOSS: it was
  // not asked to, has told of so much before, or cannot go on with what it
  // began.
  absl::Status OnPlacing(const LocalFrame& placing);
  absl::Status OnPlaced(const LocalFrame& placed);
  absl::StatusOr<Open> OnCannot(const LocalFrame& cannot);
  // Calls with what the peer was asked to write to and has not said that it is
  // through. Takes no memory.
  void ForEachOpenToPeer(absl::FunctionRef<void(const Open&)> call);

  // Where the piece behind this DATA frame goes; then OnDataRead. DATA_LOSS: it
  // was not asked for, or is longer than what is missing.
  absl::StatusOr<void*> OnData(const LocalFrame& data);
  void OnDataRead();

  // The oldest buffer once it has ended, after which it is forgotten. Empty
  // ones come too.
  std::optional<Carried> TakeEnded() { return buffers_.TakeEnded(); }
  // Bytes of those that are not forgotten.
  uint64_t nbytes() const { return buffers_.nbytes(); }

 private:
  enum class State {
    kWaiting,
    kPlacing,
    kReading,  // is placed, and not yet read along
    kCopying,
    kStreaming,
    kEnded
  };
  struct Offer {
    uint64_t number = 0, length = 0, address = 0;
    bool lent = false;
    uint8_t arena = 0;  // if it is lent
    uint64_t offset = 0;
  };
  struct Entry {
    Carried carried;
    void* data = nullptr;
    Place place;
    State state = State::kWaiting;
    std::optional<Offer> offer;  // that was taken
    uint64_t arrived = 0;        // or placed
    std::shared_ptr<CopyReader> reader;

    bool ended() const { return state == State::kEnded; }
  };

  absl::Status TakeOffer(Entry& entry);
  Step StartOrGoOn(const absl::Status& pool, const absl::Status& vm);
  bool IsPlacing(uint64_t number);
  absl::StatusOr<Entry*> Placing(const LocalFrame& answer);

  const uint64_t piece_bytes_;
  BufferQueue<Entry> buffers_;
  uint64_t undecided_ = 0;   // no earlier one waits for a decision
  uint64_t streaming_ = 0;   // no earlier one waits for DATA
  uint64_t next_offer_ = 0;  // no lower number may be offered
  std::deque<Offer> offers_;
  uint64_t copying_ = 0;  // bytes being read from the peer's memory, or leased
  uint64_t copied_to_ = 0;           // the buffer that they are for
  uint64_t coming_ = 0;              // bytes being read from the stream
  std::deque<uint64_t> to_read_;     // with a reader, as they were wanted
  uint64_t read_ = 0, reading_ = 0;  // bytes of the first of them
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_WANTED_BUFFERS_H_
