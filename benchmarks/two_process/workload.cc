#include "benchmarks/two_process/workload.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <xxhash.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "catalog/safetensors.h"

namespace tensorferry::benchmarks {
namespace {

constexpr int64_t kKi = 1024, kMi = 1024 * kKi;

const Workload* Find(absl::string_view name) {
  for (const auto* workloads : {&AllWorkloads(), &SmokeWorkloads()}) {
    for (const Workload& workload : *workloads) {
      if (workload.name == name) return &workload;
    }
  }
  return nullptr;
}

// Not compressible into equal pages, and different from tensor to tensor.
void FillOne(const at::Tensor& tensor, uint64_t seed) {
  auto* words = static_cast<uint32_t*>(tensor.mutable_data_ptr());
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    words[i] = static_cast<uint32_t>((seed + i) * 2654435761u);
  }
}

absl::StatusOr<Contents> ModelContents(const std::string& path) {
  FERRY_ASSIGN_OR_RETURN(NamedTensors model, ReadSafetensors(path));
  Contents contents{std::move(model.tensors), std::move(model.names)};
  for (const at::Tensor& tensor : contents.tensors) {
    contents.bytes += tensor.nbytes();
  }
  return contents;
}

}  // namespace

const std::vector<Workload>& AllWorkloads() {
  static const auto& workloads = *new std::vector<Workload>{
      {"1KiB", 1, kKi, 21, 100},
      {"64KiB", 1, 64 * kKi, 21, 100},
      {"1MiB", 1, kMi, 21, 20},
      {"16MiB", 1, 16 * kMi, 15, 8},
      {"256MiB", 1, 256 * kMi, 9, 2},
      {"1GiB", 1, 1024 * kMi, 7, 1},
      {"1000x4KiB", 1000, 4 * kKi, 15, 8},
      {"10000x256B", 10000, 256, 9, 3},
      {"model", 0, 0, 11, 3},
  };
  return workloads;
}

const std::vector<Workload>& SmokeWorkloads() {
  static const auto& workloads = *new std::vector<Workload>{
      {"1KiB", 1, kKi, 1, 2},
      {"64KiB", 1, 64 * kKi, 1, 2},
      {"1MiB", 1, kMi, 1, 2},
      {"100x256B", 100, 256, 1, 2},
  };
  return workloads;
}

Contents LayOut(const std::vector<int64_t>& sizes) {
  Contents contents;
  for (size_t i = 0; i < sizes.size(); ++i) {
    contents.tensors.push_back(at::empty({sizes[i] / 4}, at::kFloat));
    contents.names.push_back(absl::StrCat("layer.", i, ".weight"));
    contents.bytes += sizes[i];
  }
  return contents;
}

Contents FillSizes(const std::vector<int64_t>& sizes) {
  Contents contents = LayOut(sizes);
  for (size_t i = 0; i < sizes.size(); ++i) {
    FillOne(contents.tensors[i], i * sizes[i]);
  }
  return contents;
}

absl::StatusOr<Contents> Fill(absl::string_view name,
                              const std::string& model) {
  const Workload* workload = Find(name);
  if (workload == nullptr) {
    return absl::NotFoundError(absl::StrCat("no workload '", name, "'"));
  }
  if (workload->tensors == 0) return ModelContents(model);
  return FillSizes(std::vector<int64_t>(workload->tensors,  // of equal size
                                        workload->tensor_bytes));
}

std::vector<at::Tensor> FreshLike(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> fresh;
  fresh.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    fresh.push_back(at::empty_like(tensor));
  }
  return fresh;
}

Contents LikeThose(const Contents& contents) {
  return {FreshLike(contents.tensors), contents.names, contents.bytes};
}

void Scribble(const std::vector<at::Tensor>& tensors, uint8_t byte) {
  for (const at::Tensor& tensor : tensors) {
    std::memset(tensor.mutable_data_ptr(), byte, tensor.nbytes());
  }
}

std::string Fingerprint(const std::vector<at::Tensor>& tensors) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  for (const at::Tensor& tensor : tensors) {
    XXH3_64bits_update(state, tensor.const_data_ptr(), tensor.nbytes());
  }
  const uint64_t digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return absl::StrFormat("%016x", digest);
}

}  // namespace tensorferry::benchmarks
