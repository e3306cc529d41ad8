#ifndef TENSORFERRY_TESTS_CUDA_DEVICE_COPIES_H_
#define TENSORFERRY_TESTS_CUDA_DEVICE_COPIES_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tensorferry {
namespace testing {

// The tensors as they are, with all of their views, layouts and aliases, but
// with their memory on `to`. They may lie on the CPU and on GPUs. Waits for all
// of these devices.
absl::StatusOr<std::vector<at::Tensor>> CopiedTo(
    c10::Device to, std::vector<at::Tensor> tensors);

// Empty, or what differs between messages of the CPU: values, views, aliases.
std::string DifferenceOf(const std::vector<at::Tensor>& a,
                         const std::vector<at::Tensor>& b);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_DEVICE_COPIES_H_
