#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/strings/string_view.h"
#include "catalog/safetensors_header.h"

namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

// libtorch must be able to make what was accepted; throws if not.
void Build(const tensorferry::SafetensorsEntry& entry) {
  std::vector<char> bytes(entry.nbytes() + 1);
  const at::Tensor tensor = at::from_blob(
      bytes.data(), entry.shape, at::TensorOptions().dtype(entry.dtype));
  Require(tensor.nbytes() == entry.nbytes(), "another size");
  at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
}

// The first two bytes are the length of the data, the others the header. What
// is accepted must cover the data and survive being written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tensorferry::FormatSafetensorsHeader;
  using tensorferry::ParseSafetensorsHeader;
  if (size < 2) return 0;
  const uint64_t data_bytes = data[0] | data[1] << 8;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 2,
                               size - 2);
  const auto header = ParseSafetensorsHeader(text, data_bytes);
  if (!header.ok()) return 0;
  uint64_t next = 0;
  for (const auto& entry : header->entries) {
    Require(entry.begin == next && entry.end >= next, "not contiguous");
    next = entry.end;
    Build(entry);
  }
  Require(next == data_bytes, "data not covered");
  const auto again =
      ParseSafetensorsHeader(FormatSafetensorsHeader(*header), data_bytes);
  Require(again.ok(), "its own header refused");
  Require(again->entries.size() == header->entries.size(), "tensors lost");
  Require(again->metadata == header->metadata, "metadata lost");
  return 0;
}
