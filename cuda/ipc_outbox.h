// Internal to cuda/.
#ifndef TENSORFERRY_CUDA_IPC_OUTBOX_H_
#define TENSORFERRY_CUDA_IPC_OUTBOX_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "cuda/ipc_packets.h"

namespace tensorferry {

// The outboxes of peers that tensorpipe was let open. It keeps them for good,
// by the process's name, which another process may get when the first has
// ended, and does not survive one that it cannot open. Any thread.
//
// What is opened to see whether it can be stays open as long as this lives:
// tensorpipe has it open too, and to close it would wait for the device.
class OutboxesSeen {
 public:
  OutboxesSeen() = default;
  OutboxesSeen(const OutboxesSeen&) = delete;
  OutboxesSeen& operator=(const OutboxesSeen&) = delete;
  ~OutboxesSeen();

  // Whether `device` of this process may read the outbox that comes with
  // `chunk`, of the process `sender`. Where it did before, nothing is opened.
  // PERMISSION_DENIED: the process has called itself otherwise.
  // FAILED_PRECONDITION: its device has had another outbox. DATA_LOSS: the
  // outbox cannot be opened, or its memory is too small; names what failed,
  // with CUDA's reason.
  absl::Status Check(int64_t sender, const IpcChunk& chunk, int device);

 private:
  struct Seen {
    IpcOutbox outbox;
    std::map<int, void*> memory;  // by device of this process
  };

  absl::Mutex mu_;
  std::map<int64_t, std::string> names_ ABSL_GUARDED_BY(mu_);
  // By process and its device.
  std::map<std::pair<int64_t, int>, Seen> seen_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_IPC_OUTBOX_H_
