#ifndef TENSORFERRY_CUDA_CHANNELS_H_
#define TENSORFERRY_CUDA_CHANNELS_H_

#include <vector>

#include "transfer/backend_registry.h"

namespace tensorferry {

// tensorpipe's channels for device memory, as a program that links //cuda has
// them in BackendRegistry::Global(), the best first:
//
//   cuda_xth    between two peers of one process
//   cuda_ipc    between processes that see each other's GPU
//   cuda_gdr    over InfiniBand, where there is some and both sides name it: it
//               believes its peer, and was never run
//   cuda_basic  through pinned host memory and the wire; also from a GPU to the
//               host and back
//
// All sessions of a process share one of each, with its staging memory (32 MiB
// of each device for cuda_ipc, 16 MiB of pinned memory in each direction for
// cuda_basic) and its threads. They are made when somebody first asks whether
// they can be used, the staging at the first transfer, and stay.
//
// cuda_xth and cuda_ipc take only what comes from the process that the kernel
// says is at the other end. Errors of CUDA's that come up within tensorpipe
// end what the channel carries, of all sessions; the next session gets a new
// one, a few times. Over cuda_ipc a receiver that has met this process before
// refuses the new one: it knows a sender by its number, and that has other
// memory now.
std::vector<ChannelBackend> CudaChannels();

// Gives back what sessions shared. For tests that look for leaks: all sessions
// and their hubs have to be gone.
void CloseCudaChannelsForTesting();

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_CHANNELS_H_
