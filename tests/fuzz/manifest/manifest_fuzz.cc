// Whatever a peer sends as a manifest ends as a status or as a message whose
// tensors lie in the memory that was taken for them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/manifest.h"

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

void ReadTensors(const TensorMessage& message) {
  for (const at::Tensor& tensor : message.tensors) {
    if (tensor.layout() != c10::kStrided || tensor.numel() == 0) continue;
    // The sanitizer looks at what is read here.
    volatile char first = *static_cast<const char*>(tensor.const_data_ptr());
    (void)first;
  }
}

void Try(absl::string_view bytes) {
  absl::StatusOr<Manifest> manifest = DecodeManifest(bytes, FuzzLimits());
  if (!manifest.ok()) return;
  Read(*manifest);
  // What is decoded encodes to something that decodes to the same.
  std::string again = EncodeManifest(*manifest);
  absl::StatusOr<Manifest> twice = DecodeManifest(again, FuzzLimits());
  Require(twice.ok() && EncodeManifest(*twice) == again);
  AllocateOptions options;
  options.limits = FuzzLimits();
  absl::StatusOr<ReadBuffers> buffers = Allocate(*std::move(manifest), options);
  if (!buffers.ok()) return;
  for (const Region& region : buffers->regions()) {
    if (region.nbytes > 0) std::memset(region.data, 1, region.nbytes);
  }
  absl::StatusOr<TensorMessage> message = Deserialize(*std::move(buffers));
  if (message.ok()) ReadTensors(*message);
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tensorferry::Try({reinterpret_cast<const char*>(data), size});
  return 0;
}
