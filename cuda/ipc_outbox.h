// Internal to cuda/.
#ifndef TENSORFERRY_CUDA_IPC_OUTBOX_H_
#define TENSORFERRY_CUDA_IPC_OUTBOX_H_

#include "absl/status/status.h"
#include "cuda/ipc_packets.h"

namespace tensorferry {

// Whether `device` of this process can open the memory and the events of a
// peer's outbox, and whether that memory is as large as it has to be; closes
// them again. tensorpipe does not survive an outbox that it cannot open.
// DATA_LOSS: names what failed, with CUDA's reason.
absl::Status TryOutbox(const IpcOutbox& outbox, int device);

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_IPC_OUTBOX_H_
