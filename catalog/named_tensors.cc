#include "catalog/named_tensors.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/mapped_file.h"
#include "catalog/name_matching.h"
#include "serialization/components.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxNameBytes = 4096;

absl::Status CheckName(absl::string_view name) {
  if (name.empty()) {
    return absl::InvalidArgumentError("a tensor has no name: give it one");
  }
  if (name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", absl::CEscape(name.substr(0, 64)), "...\": its name has ",
        name.size(), " bytes, at most ", kMaxNameBytes, " are allowed"));
  }
  if (!IsUtf8(name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", absl::CHexEscape(name), "\": its name is not UTF-8"));
  }
  return absl::OkStatus();
}

// How many bytes follow the first byte of a UTF-8 sequence; -1 if none may
// begin with it.
int FollowingBytes(unsigned char first) {
  if (first < 0x80) return 0;
  if (first >= 0xc2 && first <= 0xdf) return 1;
  if (first >= 0xe0 && first <= 0xef) return 2;
  if (first >= 0xf0 && first <= 0xf4) return 3;
  return -1;
}

}  // namespace

bool IsUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char first = text[i];
    const int following = FollowingBytes(first);
    if (following < 0 || text.size() - i <= static_cast<size_t>(following)) {
      return false;
    }
    for (int k = 1; k <= following; ++k) {
      if ((text[i + k] & 0xc0) != 0x80) return false;
    }
    if (following > 0) {
      // Overlong forms, surrogates, and what lies beyond U+10FFFF.
      const unsigned char second = text[i + 1];
      if (first == 0xe0 && second < 0xa0) return false;
      if (first == 0xed && second > 0x9f) return false;
      if (first == 0xf0 && second < 0x90) return false;
      if (first == 0xf4 && second > 0x8f) return false;
    }
    i += 1 + following;
  }
  return true;
}

absl::Status CheckNamed(const NamedTensors& contents) {
  if (contents.names.size() != contents.tensors.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(contents.tensors.size(), " tensors, but ",
                     contents.names.size(), " names: each needs one"));
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (size_t i = 0; i < contents.names.size(); ++i) {
    FERRY_RETURN_IF_ERROR(CheckName(contents.names[i]));
    if (!seen.insert(contents.names[i]).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", absl::Utf8SafeCEscape(contents.names[i]),
                       "\": two tensors have this name"));
    }
    if (auto kind = KindOf(contents.tensors[i]); !kind.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", absl::Utf8SafeCEscape(contents.names[i]),
                       "\" ", std::string(kind.status().message())));
    }
  }
  for (const auto& [key, text] : contents.metadata) {
    if (IsUtf8(key) && IsUtf8(text)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("metadata \"", absl::CHexEscape(key), "\": not UTF-8"));
  }
  return absl::OkStatus();
}

absl::Status CheckUnchanged(const NamedTensors& contents) {
  if (contents.mapped_file == nullptr) return absl::OkStatus();
  return contents.mapped_file->CheckUnchanged();
}

NamedTensors Filter(const NamedTensors& contents, absl::string_view glob) {
  NameMatching unbounded = NameMatching::Unbounded();
  return Filter(contents, glob, unbounded);
}

NamedTensors Filter(const NamedTensors& contents, absl::string_view glob,
                    NameMatching& matching) {
  NamedTensors kept;
  for (size_t i = 0; i < contents.names.size(); ++i) {
    if (!matching.Matches(glob, contents.names[i])) continue;
    kept.names.push_back(contents.names[i]);
    kept.tensors.push_back(contents.tensors[i]);
  }
  kept.metadata = contents.metadata;
  kept.mapped_file = contents.mapped_file;
  if (kept.names.size() == contents.names.size()) {
    kept.file_header = contents.file_header;
  }
  return kept;
}

uint64_t ByteSize(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kSparse) {
    return ByteSize(tensor._indices()) + ByteSize(tensor._values());
  }
  if (tensor.layout() == c10::kSparseCsr ||
      tensor.layout() == c10::kSparseBsr) {
    return ByteSize(tensor.crow_indices()) + ByteSize(tensor.col_indices()) +
           ByteSize(tensor.values());
  }
  if (tensor.layout() == c10::kSparseCsc ||
      tensor.layout() == c10::kSparseBsc) {
    return ByteSize(tensor.ccol_indices()) + ByteSize(tensor.row_indices()) +
           ByteSize(tensor.values());
  }
  return static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
}

uint64_t ByteSize(const NamedTensors& contents) {
  uint64_t bytes = 0;
  for (const at::Tensor& tensor : contents.tensors) bytes += ByteSize(tensor);
  return bytes;
}

}  // namespace tensorferry
