#include "serialization/host_memory.h"

#include <c10/core/CPUAllocator.h>

#include "absl/strings/str_cat.h"
#include "serialization/torch_errors.h"

namespace tensorferry {

absl::StatusOr<c10::DataPtr> AllocateOnHost(uint64_t nbytes) {
  return CatchTorchErrors(
      absl::StatusCode::kResourceExhausted,
      [&] { return absl::StrCat(nbytes, " bytes on the cpu"); },
      [&]() -> absl::StatusOr<c10::DataPtr> {
        return c10::GetCPUAllocator()->allocate(nbytes);
      });
}

}  // namespace tensorferry
