#ifndef TENSORFERRY_CATALOG_SAFETENSORS_HEADER_H_
#define TENSORFERRY_CATALOG_SAFETENSORS_HEADER_H_

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// One tensor of a safetensors file: what it is and which bytes of the file's
// data part are its elements, row by row, little-endian.
struct SafetensorsEntry {
  std::string name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;

  uint64_t nbytes() const { return end - begin; }
};

// The JSON header of a safetensors file. A file is: the header's length (8
// bytes, little-endian), the header, the data.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;

  uint64_t data_bytes() const {
    return entries.empty() ? 0 : entries.back().end;
  }
};

// As everybody else who reads these files.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// Reads a header and checks that it describes `data_bytes` bytes completely:
// every byte belongs to exactly one tensor.
// INVALID_ARGUMENT, naming tensor and offset: not JSON, not of the form
// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {"key":
// "text"}}, a name used twice, a dtype that libtorch does not have, a length
// that shape and dtype contradict, bytes that two tensors or none have.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json,
                                                         uint64_t data_bytes);

// The header for `entries`, whose offsets must be set, padded so that the data
// after it starts at a multiple of 8.
std::string FormatSafetensorsHeader(const SafetensorsHeader& header);

// "F32". Empty: safetensors has no name for it.
absl::string_view SafetensorsDtype(c10::ScalarType dtype);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_SAFETENSORS_HEADER_H_
