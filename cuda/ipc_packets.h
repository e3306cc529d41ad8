#ifndef TENSORFERRY_CUDA_IPC_PACKETS_H_
#define TENSORFERRY_CUDA_IPC_PACKETS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// What tensorpipe's channel cuda_ipc tells the other side. It believes all of
// it: it indexes by what these say. Reading is strict, DATA_LOSS for everything
// that tensorpipe would not write.

// A device, in a brochure.
struct IpcDevice {
  std::string boot_id;
  int64_t process_id = 0;
  std::string uuid;  // without "GPU-"
};
absl::StatusOr<IpcDevice> ReadIpcDevice(absl::string_view descriptor);

// The memory of a device from which a sender has its chunks read: slots, and an
// event for each.
struct IpcOutbox {
  static constexpr uint64_t kSlots = 4;
  static constexpr uint64_t kSlotBytes = uint64_t{8} << 20;
  static constexpr size_t kHandleBytes = 64;  // of memory, and of an event

  std::string process;  // "<pid namespace>_<pid>"
  std::string memory;   // CUDA's handles
  std::vector<std::string> events;

  friend bool operator==(const IpcOutbox&, const IpcOutbox&) = default;
};

// Where a chunk is.
struct IpcChunk {
  int device = 0;  // by the sender's count
  uint64_t slot = 0;
  std::optional<IpcOutbox> outbox;  // at the device's first chunk
};
absl::StatusOr<IpcChunk> ReadIpcChunk(absl::string_view packet);

// The chunks of one connection.
class IpcChunks {
 public:
  // `sender`: as the kernel knows it. The chunk if it comes with an outbox,
  // whose handles have still to be tried. DATA_LOSS: malformed; a device or
  // slot that cannot be; a device whose outbox did not come, or came twice.
  // PERMISSION_DENIED: the outbox of another process.
  absl::StatusOr<std::optional<IpcChunk>> Check(absl::string_view packet,
                                                int64_t sender);

 private:
  std::set<int> devices_;  // whose outbox came
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_IPC_PACKETS_H_
