#include "tests/cuda/device_copies.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "serialization/torch_types.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace testing {
namespace {

int Gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Placement AllOn(c10::Device to) {
  Placement placement;
  for (const char* source : {"cpu", "cuda:0", "cuda:1"}) {
    PlacementRule rule;
    rule.source = *ParseDeviceId(source);
    rule.target = DeviceIdOf(to);
    placement.rules.push_back(std::move(rule));
  }
  return placement;
}

absl::Status Synchronize() {
  cudaError_t error = cudaSuccess;
  for (int device = Gpus() - 1; device >= 0; --device) {
    if (error == cudaSuccess) error = cudaSetDevice(device);
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
  }
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(cudaGetErrorString(error));
}

}  // namespace

absl::StatusOr<std::vector<at::Tensor>> CopiedTo(
    c10::Device to, std::vector<at::Tensor> tensors) {
  SerializeOptions send;
  send.placement = AllOn(to);
  AllocateOptions receive;
  for (int device = 0; device < Gpus(); ++device) {
    const c10::Stream stream =
        c10::cuda::getDefaultCUDAStream(static_cast<c10::DeviceIndex>(device));
    send.streams.push_back(stream);
    receive.streams.push_back(stream);
  }
  FERRY_ASSIGN_OR_RETURN(
      WriteBuffers sent,
      Serialize(TensorMessage{.tensors = std::move(tensors)}, send));
  FERRY_ASSIGN_OR_RETURN(ReadBuffers received,
                         Allocate(sent.manifest(), receive));
  FERRY_RETURN_IF_ERROR(Synchronize());
  for (size_t i = 0; i < sent.regions().size(); ++i) {
    const Region& from = sent.regions()[i];
    if (from.nbytes == 0) continue;
    const cudaError_t error = cudaMemcpy(received.regions()[i].data, from.data,
                                         from.nbytes, cudaMemcpyDefault);
    if (error != cudaSuccess) {
      return absl::InternalError(cudaGetErrorString(error));
    }
  }
  FERRY_ASSIGN_OR_RETURN(TensorMessage copied,
                         Deserialize(std::move(received)));
  FERRY_RETURN_IF_ERROR(Synchronize());
  return std::move(copied.tensors);
}

std::string DifferenceOf(const std::vector<at::Tensor>& a,
                         const std::vector<at::Tensor>& b) {
  if (a.size() != b.size()) {
    return absl::StrCat(a.size(), " tensors became ", b.size());
  }
  for (size_t i = 0; i < a.size(); ++i) {
    std::string difference = Difference(a[i], b[i]);
    if (!difference.empty()) {
      return absl::StrCat("tensor ", i, ": ", difference);
    }
  }
  return Aliasing(a) == Aliasing(b) ? "" : "aliases differ";
}

}  // namespace testing
}  // namespace tensorferry
