// Whatever a peer sends as a manifest ends as a status or as a message whose
// tensors lie in the memory that was taken for them.
#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/manifest.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace {

// Small enough that a run takes microseconds, not memory.
Limits FuzzLimits() {
  Limits limits;
  limits.message_bytes = 1 << 16;
  limits.manifest_bytes = 1 << 16;
  limits.tensors = 256;
  limits.rank = 16;
  return limits;
}

void Require(bool condition) {
  if (!condition) std::abort();
}

// Touches what the manifest's readers touch.
void Read(const Manifest& manifest) {
  for (int t = 0; t < manifest.tensor_count(); ++t) {
    manifest.sizes(t);
    manifest.Describe(t);
    if (manifest.named()) {
      Require(manifest.FindTensor(manifest.tensor_name(t)) == t);
    }
  }
  for (int s = 0; s < manifest.storage_count(); ++s) {
    Manifest::StorageEntry storage = manifest.storage(s);
    uint64_t buffer = manifest.buffer_nbytes(storage.buffer);
    Require(storage.at <= buffer && storage.nbytes <= buffer - storage.at);
  }
}

constexpr int64_t kSmall = 1 << 12;  // elements; a window may repeat its bytes

// The sanitizer looks at what is read here: the first and the last byte.
void ReadStrided(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  auto* begin = static_cast<const volatile char*>(tensor.const_data_ptr());
  (void)begin[0];
  bool is_packed = tensor.scalar_type() == at::kQUInt4x2 ||
                   tensor.scalar_type() == at::kQUInt2x4;
  if (is_packed) return;
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    last += (tensor.size(d) - 1) * tensor.stride(d);
  }
  (void)begin[(last + 1) * tensor.element_size() - 1];
}

// Reads all values, at the places that its indices say.
void ReadSparse(const at::Tensor& tensor) {
  int64_t numel = 1;
  for (int64_t size : tensor.sizes()) {
    if (size > kSmall || (numel *= size) > kSmall) return;
  }
  try {
    tensor.detach().to_dense();
  } catch (const c10::Error&) {
    // Not for every dtype.
  }
}

void ReadTensors(const TensorMessage& message) {
  for (const at::Tensor& tensor : message.tensors) {
    if (tensor.layout() == c10::kStrided) {
      ReadStrided(tensor);
    } else {
      ReadSparse(tensor);
    }
  }
}

// A manifest ends with its version. What follows it in an input is the bytes
// that are received, over and over.
struct Input {
  absl::string_view manifest, body;
};

Input Split(absl::string_view bytes) {
  constexpr absl::string_view kVersion1("\xf8\x01\x01", 3);
  size_t version = bytes.rfind(kVersion1);
  if (version == absl::string_view::npos) return {bytes, "\1"};
  size_t end = version + kVersion1.size();
  return {bytes.substr(0, end), end < bytes.size() ? bytes.substr(end) : "\1"};
}

at::Tensor OnBytes(const at::Tensor& bytes, const Manifest::View& view,
                   int64_t offset, at::IntArrayRef strides) {
  at::Tensor tensor = at::empty({0}, ScalarTypeOf(view.dtype));
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(bytes.storage());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(
      at::IntArrayRef(view.sizes.data(), view.sizes.size()), strides, offset);
  return tensor;
}

// Destinations for some of the dense tensors: in memory that is shared as the
// message's is, or in memory of their own, with the dimensions reversed or not.
Destination DestinationFor(const Manifest& manifest, absl::string_view body) {
  Destination into;
  std::map<int, at::Tensor> storages;
  for (int t = 0; manifest.named() && t < manifest.tensor_count(); ++t) {
    int choice = body[static_cast<size_t>(t) % body.size()] & 3;
    if (choice == 0 || manifest.kind(t) != TensorKind::kDense) continue;
    Manifest::View view = manifest.view(manifest.first_view(t));
    int64_t itemsize = InfoOf(view.dtype).itemsize, numel = 1;
    std::vector<int64_t> strides(view.sizes.size());
    for (size_t i = 0; i < strides.size() && numel <= kSmall; ++i) {
      size_t d = choice == 1 ? i : strides.size() - 1 - i;
      strides[d] = numel;
      numel *= view.sizes[d] <= kSmall ? view.sizes[d] : kSmall + 1;
    }
    if (numel > kSmall) continue;
    at::Tensor bytes = at::zeros({numel * itemsize}, at::kByte);
    int64_t offset = 0;
    if (choice == 3) {
      auto nbytes = static_cast<int64_t>(manifest.storage_nbytes(view.storage));
      at::Tensor& shared = storages[view.storage];
      if (!shared.defined()) shared = at::zeros({nbytes}, at::kByte);
      bytes = shared;
      offset = view.offset;
      if (!view.strides.empty()) {
        strides.assign(view.strides.begin(), view.strides.end());
      }
    }
    into.names.emplace_back(manifest.tensor_name(t));
    into.tensors.push_back(OnBytes(bytes, view, offset, strides));
  }
  return into;
}

void Receive(Manifest manifest, absl::string_view body, Destination into) {
  AllocateOptions options;
  options.limits = FuzzLimits();
  options.into = std::move(into);
  absl::StatusOr<ReadBuffers> buffers = Allocate(std::move(manifest), options);
  if (!buffers.ok()) return;
  for (const Region& region : buffers->regions()) {
    for (uint64_t i = 0; i < region.nbytes; ++i) {
      region.data[i] = static_cast<std::byte>(body[i % body.size()]);
    }
  }
  absl::StatusOr<TensorMessage> message = Deserialize(*std::move(buffers));
  if (message.ok()) ReadTensors(*message);
}

void Try(absl::string_view bytes) {
  Input input = Split(bytes);
  absl::StatusOr<Manifest> manifest =
      DecodeManifest(input.manifest, FuzzLimits());
  if (!manifest.ok()) return;
  Read(*manifest);
  // What is decoded encodes to something that decodes to the same.
  std::string again = EncodeManifest(*manifest);
  absl::StatusOr<Manifest> twice = DecodeManifest(again, FuzzLimits());
  Require(twice.ok() && EncodeManifest(*twice) == again);
  Receive(*manifest, input.body, DestinationFor(*manifest, input.body));
  Receive(*std::move(manifest), input.body, {});
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::Try({reinterpret_cast<const char*>(data), size});
  return 0;
}
