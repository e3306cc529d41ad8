#ifndef TENSORFERRY_TRANSPORT_FRAME_H_
#define TENSORFERRY_TRANSPORT_FRAME_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tensorferry {

// What tensorpipe writes to a connection goes over it as frames: eight bytes,
// then the body. The eight are little-endian; the highest one is the kind, the
// rest the body's length.
enum class FrameKind : uint8_t {
  kBytes = 'B',   // of a buffer; the reader mostly knows how many
  kPacket = 'P',  // one of tensorpipe's own, in libnop's encoding
};

struct FrameHeader {
  static constexpr size_t kBytes = 8;
  static constexpr uint64_t kLongest = (uint64_t{1} << 56) - 1;

  FrameKind kind = FrameKind::kBytes;
  uint64_t length = 0;
};

void EncodeFrameHeader(const FrameHeader& header, uint8_t* out);
// DATA_LOSS: no such kind.
absl::StatusOr<FrameHeader> DecodeFrameHeader(const uint8_t* in);

// The frames that are to be sent, in order, and how far they are.
class FrameWriter {
 public:
  // `data` must stay until the frame is through. `length` is at most
  // FrameHeader::kLongest.
  void AddBytes(const void* data, uint64_t length);
  // The same with a descriptor, which goes with the frame's first byte and must
  // stay open until the frame is through. `without`: what is sent instead of
  // `data`, and is as long, if it cannot go.
  void AddBytesWith(int descriptor, const void* data, const void* without,
                    uint64_t length);
  void AddPacket(std::vector<uint8_t> packet);

  bool empty() const { return frames_.empty(); }
  // The first frames as they go over the wire, at most `count` of them and none
  // behind a buffer. Nothing was sent yet.
  std::string FirstPackets(int count) const;
  // What to send next. Fills at most `capacity` and returns how many.
  int Next(iovec* out, int capacity) const;
  // What has to go with the first byte of that; -1: none.
  int NextDescriptor() const;
  // That cannot go.
  void DropDescriptor();
  // So much was sent. Returns how many frames are through with it.
  int Sent(size_t bytes);

 private:
  struct Frame {
    uint8_t header[FrameHeader::kBytes];
    const uint8_t* data;
    uint64_t length;
    std::vector<uint8_t> packet;
    int descriptor = -1;
    const uint8_t* without = nullptr;
  };
  void Add(FrameKind kind, const void* data, uint64_t length,
           std::vector<uint8_t> packet);

  std::deque<Frame> frames_;
  uint64_t sent_ = 0;  // of the first one, with its header
};

// The frames that are expected, in order, and how far they are. A frame of
// another kind or length than expected is DATA_LOSS, and nothing is written but
// to what was expected. After an error nothing may be called any more.
//
// A header costs its sender nothing, so a body of a length that he chooses gets
// memory for kFirstStep bytes at first and then for at most twice as many as
// have come. RESOURCE_EXHAUSTED: there is none.
class FrameReader {
 public:
  static constexpr uint64_t kFirstStep = uint64_t{16} << 10;

  // `longest` bounds frames of which the length is not known before.
  explicit FrameReader(uint64_t longest) : longest_(longest) {}

  // A frame of exactly `length` bytes into `data`.
  void ExpectBytes(void* data, uint64_t length);
  // A frame of a length that the sender chooses.
  void ExpectAny(FrameKind kind);

  bool expecting() const { return done_ < frames_.size(); }

  // Where the next bytes of the stream go. Fills at most `capacity`; returns 0
  // if they are better read elsewhere and given to Take.
  int Next(iovec* out, int capacity);
  absl::Status Received(size_t bytes);
  // Takes bytes of the stream as far as they are expected, says how many.
  absl::StatusOr<size_t> Take(const uint8_t* data, size_t size);

  // Whether the first frame expected is complete. Then TakeFrame returns its
  // body, if it was not for a buffer, and forgets it.
  bool has_frame() const { return done_ > 0; }
  std::vector<uint8_t> TakeFrame();

 private:
  struct Frame {
    uint8_t header[FrameHeader::kBytes];
    FrameKind kind;
    bool any_length;
    uint8_t* data;
    uint64_t length;            // once the header is there, if it was not known
    std::vector<uint8_t> body;  // what there is memory for so far

    // Up to where `data` can take the body now.
    uint64_t room() const { return any_length ? body.size() : length; }
  };
  absl::Status OnHeader(Frame& frame);
  static absl::Status Grow(Frame& frame);

  const uint64_t longest_;
  std::deque<Frame> frames_;
  size_t done_ = 0;   // of them, those that are complete
  uint64_t got_ = 0;  // of the one after those, with its header
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_FRAME_H_
