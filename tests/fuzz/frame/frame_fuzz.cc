// Bytes of a peer as a frame and as a body's description: refused, or decoded
// to something that encodes to bytes that say the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "transfer/frame_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const tensorferry::Limits limits;
  if (auto frame = tensorferry::DecodeFrame(bytes, limits); frame.ok()) {
    const std::string again = tensorferry::EncodeFrame(*frame);
    auto second = tensorferry::DecodeFrame(again, limits);
    if (!second.ok() || tensorferry::EncodeFrame(*second) != again) {
      std::abort();
    }
  }
  if (auto tag = tensorferry::DecodeBodyTag(bytes); tag.ok()) {
    const std::string again = tensorferry::EncodeBodyTag(*tag);
    if (!tensorferry::DecodeBodyTag(again).ok()) std::abort();
  }
  return 0;
}
