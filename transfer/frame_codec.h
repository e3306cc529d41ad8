#ifndef TENSORFERRY_TRANSFER_FRAME_CODEC_H_
#define TENSORFERRY_TRANSFER_FRAME_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/limits.h"
#include "transfer/envelope.h"
#include "transfer/pieces.h"

namespace tensorferry {

inline constexpr int kWireVersion = 1;

// What frame.proto says, as values that were checked. docs/wire_format.md has
// their meaning and order.
struct ChannelDescription {
  std::string name, device_type;
  int device_index = 0;
  std::string descriptor;
};

struct GivenUpPath {
  std::string path;  // of wires, as yet
  absl::Status why;
};

struct HelloFrame {
  std::string session_id, wire;
  uint32_t lane = 0, generation = 0;
  int wire_version = kWireVersion;
  uint32_t lanes = 0;
  std::vector<ChannelDescription> channels;
  std::vector<GivenUpPath> given_up;
};

struct HeaderFrame {
  uint64_t operation = 0;
  std::string plan_digest, manifest;
  bool is_inline = false;
  Envelope envelope;
  std::vector<uint64_t> digests;
  std::vector<uint32_t> lent;  // buffers, in growing order
};

struct GrantFrame {
  uint64_t operation = 0;
  bool leases = false;  // what is lent
};

struct RefuseFrame {
  uint64_t operation = 0;
  absl::Status status;
};

struct TrailerFrame {
  uint64_t operation = 0;
  std::vector<uint64_t> digests;
  std::vector<BodyAttempt> again;  // bodies whose last attempt is not 0
};

struct AckFrame {
  uint64_t operation = 0;
  absl::Status status;
};

struct CancelFrame {
  uint64_t operation = 0;
  absl::Status status;
};

struct ReopenFrame {
  uint32_t lane = 0, generation = 0;
};

struct RejectFrame {
  absl::Status status;
};

struct ReturnedFrame {
  static constexpr size_t kMost = 4096;  // operations
  std::vector<uint64_t> operations;
};

using Frame = std::variant<HelloFrame, HeaderFrame, GrantFrame, RefuseFrame,
                           TrailerFrame, AckFrame, CancelFrame, ReopenFrame,
                           RejectFrame, ReturnedFrame>;

// In front of the pieces on a body lane.
struct BodyTag {
  uint64_t operation = 0;
  uint32_t generation = 0;
  uint32_t body = 0;
  uint32_t attempt = 0;
};

// No frame is longer than this; checked before memory for one is taken. Most
// kinds are much shorter.
size_t MaxFrameBytes(const Limits& limits);

// Statuses keep their code and the first 4 KiB of their text.
std::string EncodeFrame(const Frame& frame);
std::string EncodeBodyTag(const BodyTag& tag);

// INVALID_ARGUMENT, naming the frame and the field: not a frame, or a value
// that none may have. RESOURCE_EXHAUSTED: longer than its kind may be, or a
// manifest longer than limits.manifest_bytes.
absl::StatusOr<Frame> DecodeFrame(absl::string_view bytes,
                                  const Limits& limits);
absl::StatusOr<BodyTag> DecodeBodyTag(absl::string_view bytes);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_FRAME_CODEC_H_
