#ifndef TENSORFERRY_CATALOG_NAMED_TENSORS_H_
#define TENSORFERRY_CATALOG_NAMED_TENSORS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

class MappedFile;
class NameMatching;

// Tensors by name and the texts that go with them: what a bundle holds, and
// what a safetensors file holds.
struct NamedTensors {
  std::vector<std::string> names;   // unique
  std::vector<at::Tensor> tensors;  // one for each name
  std::map<std::string, std::string> metadata;
  // The JSON header of the safetensors file that these were read from, as it
  // stood there; empty if there was none. A file written from all of these
  // tensors then has the same bytes as the one that was read.
  std::string file_header;
  // The file whose pages the tensors are; null: none.
  std::shared_ptr<const MappedFile> mapped_file;
};

// INVALID_ARGUMENT, naming the tensor: no name, one longer than 4096 bytes, not
// UTF-8 or used twice, a tensor that cannot be sent (undefined, nested, meta),
// not one tensor for each name.
absl::Status CheckNamed(const NamedTensors& contents);

// FAILED_PRECONDITION: the file whose pages the tensors are was changed.
absl::Status CheckUnchanged(const NamedTensors& contents);

// Those whose name `glob` matches, in their order. The file header goes with
// them only if all do.
NamedTensors Filter(const NamedTensors& contents, absl::string_view glob);
// The same for a glob of a peer's, within the work that is allowed for it.
NamedTensors Filter(const NamedTensors& contents, absl::string_view glob,
                    NameMatching& matching);

// What the tensors' elements take: numel times the element's size. Sparse
// tensors count with their stored elements.
uint64_t ByteSize(const at::Tensor& tensor);
uint64_t ByteSize(const NamedTensors& contents);

// Whether `text` is well-formed UTF-8, as JSON and protobuf demand of strings.
bool IsUtf8(absl::string_view text);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_NAMED_TENSORS_H_
