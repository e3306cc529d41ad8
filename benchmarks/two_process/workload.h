#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_WORKLOAD_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_WORKLOAD_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry::benchmarks {

// What one message of a benchmark carries, and how often it is sent.
struct Workload {
  std::string name;     // "16MiB"
  int64_t tensors = 1;  // of equal size; 0: those of the model file
  int64_t tensor_bytes = 0;
  int rounds = 1;
  int messages = 1;  // timed, in each contestant's turn of a round
};

const std::vector<Workload>& AllWorkloads();
// The smallest sizes, once: for a test that both sides deliver.
const std::vector<Workload>& SmokeWorkloads();

// The tensors of a message, in their order, with their names.
struct Contents {
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names;
  int64_t bytes = 0;
};

// `sizes.size()` tensors of so many bytes each, touched and filled.
Contents FillSizes(const std::vector<int64_t>& sizes);
// The same, neither touched nor filled.
Contents LayOut(const std::vector<int64_t>& sizes);

// The tensors of the workload called `name`, touched and filled. `model` is a
// safetensors file. NOT_FOUND: no such workload.
absl::StatusOr<Contents> Fill(absl::string_view name, const std::string& model);

// Tensors of the same sizes and types, neither touched nor filled.
std::vector<at::Tensor> FreshLike(const std::vector<at::Tensor>& tensors);

// Tensors like those of `contents`, on memory of their own.
Contents LikeThose(const Contents& contents);

// Writes `byte` to every byte.
void Scribble(const std::vector<at::Tensor>& tensors, uint8_t byte);

// Over all bytes, in order: two processes that print the same hold the same.
std::string Fingerprint(const std::vector<at::Tensor>& tensors);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_WORKLOAD_H_
