#include "tests/reliability/content.h"

#include <ATen/ops/arange.h>
#include <xxhash.h>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace testing {
namespace {

std::string DigestOf(const at::Tensor& tensor) {
  return absl::StrCat(
      absl::Hex(XXH3_64bits(tensor.const_data_ptr(), tensor.nbytes())), "/",
      tensor.nbytes());
}

}  // namespace

TensorMessage MakeContent(uint32_t type, int64_t id, int64_t nbytes, int seed) {
  at::Tensor tensor = at::arange(int64_t{seed}, seed + nbytes / 4, at::kInt);
  return {.type = type,
          .id = id,
          .payload = DigestOf(tensor),
          .tensors = {std::move(tensor)}};
}

bool IsIntact(const TensorMessage& message) {
  return message.tensors.size() == 1 && message.tensors[0].is_contiguous() &&
         DigestOf(message.tensors[0]) == message.payload;
}

}  // namespace testing
}  // namespace tensorferry
