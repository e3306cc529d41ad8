#include "catalog/copy_tensors.h"

#include <ATen/ops/empty.h>

#include <new>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using CopiedStorages = absl::flat_hash_map<c10::StorageImpl*, c10::Storage>;

c10::Storage CopyStorage(const c10::Storage& storage) {
  at::Tensor bytes = at::empty(
      {0}, at::TensorOptions().dtype(c10::kByte).device(storage.device()));
  bytes.set_(storage, 0, {static_cast<int64_t>(storage.nbytes())}, {1});
  return bytes.clone().storage();
}

at::Tensor Copy(const at::Tensor& tensor, CopiedStorages& copies) {
  const bool aliased = tensor.layout() == c10::kStrided &&
                       tensor.has_storage() && !tensor.is_meta();
  if (!aliased) return tensor.detach().clone();
  auto [copy, is_new] = copies.try_emplace(
      tensor.storage().unsafeGetStorageImpl(), c10::Storage());
  if (is_new) copy->second = CopyStorage(tensor.storage());
  // Sizes, strides, offset, conj and neg bits, quantisers: all but the bytes.
  at::Tensor result(tensor.unsafeGetTensorImpl()->shallow_copy_and_detach(
      c10::VariableVersion(0), /*allow_tensor_metadata_change=*/true));
  result.unsafeGetTensorImpl()->set_storage_keep_dtype(copy->second);
  return result;
}

}  // namespace

absl::StatusOr<std::vector<at::Tensor>> CopyTensors(
    std::vector<at::Tensor> tensors) {
  CopiedStorages copies;
  try {
    for (at::Tensor& tensor : tensors) {
      at::Tensor copy = Copy(tensor, copies);
      copy.set_requires_grad(tensor.requires_grad());
      tensor = std::move(copy);
    }
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for copies of tensors");
  } catch (const c10::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a tensor cannot be copied: ", error.what_without_backtrace()));
  }
  return tensors;
}

}  // namespace tensorferry
