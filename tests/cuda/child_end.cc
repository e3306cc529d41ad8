#include "tests/cuda/child_end.h"

#ifndef FERRY_REAL_GPU
#include <unistd.h>

#include <iostream>
#include <string>

#include "cuda/channels.h"
#include "tests/software_gpu/torch_fixture.h"
#endif

namespace tensorferry {
namespace testing {

int EndChild(int result) {
#ifndef FERRY_REAL_GPU
  CloseCudaChannelsForTesting();
  software_gpu::ReleaseTorchCaches();
  for (const std::string& fault : software_gpu::TakeFaults(/*before=*/{})) {
    std::cerr << "process " << getpid() << ": " << fault << std::endl;
    result = 1;
  }
#endif
  return result;
}

}  // namespace testing
}  // namespace tensorferry
