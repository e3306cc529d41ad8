#ifndef TENSORFERRY_TRANSFER_LANE_FRAMES_H_
#define TENSORFERRY_TRANSFER_LANE_FRAMES_H_

#include <tensorpipe/core/message.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "transfer/frame_codec.h"
#include "transfer/lane.h"
#include "transfer/rules.h"

namespace tensorferry {

// A frame as a message of tensorpipe: the frame is the metadata, or the first
// payload; the bytes of an inline message are the payload after it.

// Metadata takes the transport one step instead of two. But a message without
// payload is called written at once, be the socket full or not.
enum class FrameIn { kMetadataIfShort, kPayload };

void WriteFrame(Lane& lane, const Frame& frame, FrameIn where,
                std::string inline_bytes, Lane::Written done);

using FrameHandler =
    std::function<void(absl::StatusOr<Frame> frame, std::string inline_bytes)>;

// Takes the message that `lane` has described and runs `handler`, on the loop,
// perhaps before this returns; not at all if the lane ends first. `greeted`:
// the peer's HELLO was right; before, little is taken. INVALID_ARGUMENT: no
// frame, or beyond the limits; RESOURCE_EXHAUSTED: no memory for it; and what
// DecodeFrame says.
void ReadFrame(Lane& lane, tensorpipe::Descriptor descriptor,
               const TransferRules& rules, bool greeted, FrameHandler handler);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANE_FRAMES_H_
