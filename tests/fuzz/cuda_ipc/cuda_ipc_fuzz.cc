// What a sender over cuda_ipc says: a device, or a chunk and the same again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "cuda/ipc_packets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  const absl::string_view packet(reinterpret_cast<const char*>(data), size);
  ReadIpcDevice(packet).IgnoreError();
  IpcChunks chunks;
  for (int i = 0; i < 2; ++i) {
    const auto chunk = chunks.Check(packet, 7);
    if (!chunk.ok()) continue;
    // An outbox comes once, and nothing comes before it.
    if (i > 0 || !*chunk || (**chunk).slot >= IpcOutbox::kSlots) std::abort();
  }
  return 0;
}
