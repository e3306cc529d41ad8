#ifndef TENSORFERRY_TESTS_TESTING_TENSOR_MATRIX_H_
#define TENSORFERRY_TESTS_TESTING_TENSOR_MATRIX_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace tensorferry {
namespace testing {

// Messages that between them hold every dtype of the manifest's table with
// every kind of view, or every layout, or, if it is quantised, every scheme;
// and aliases and flags. Content is pseudo-random bytes of the right kind.
struct MatrixCase {
  std::string name;  // "float32/strided/transposed/7x5"
  std::vector<at::Tensor> tensors;
};
std::vector<MatrixCase> TensorMatrix();

// Empty if `b` is `a` as it should be after a crossing: dtype, layout, sizes,
// strides (without holes, if it was gathered), flags, and every byte that
// elements of it cover (NaN payloads too); else what differs.
std::string Difference(const at::Tensor& a, const at::Tensor& b);

// Whether tensors i and j share a storage, for all pairs: equal for messages
// with the same aliasing.
std::vector<std::vector<bool>> Aliasing(const std::vector<at::Tensor>& tensors);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_TENSOR_MATRIX_H_
