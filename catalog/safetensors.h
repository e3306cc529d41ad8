#ifndef TENSORFERRY_CATALOG_SAFETENSORS_H_
#define TENSORFERRY_CATALOG_SAFETENSORS_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "catalog/named_tensors.h"

namespace tensorferry {

enum class SafetensorsMemory {
  // The tensors are the file's pages, read when they are touched. The mapping
  // lives as long as one of its tensors. Writes to them stay in this process.
  // The file must not be changed in place meanwhile: new bytes would show, and
  // a file that was cut short ends the process with SIGBUS. A pull or push that
  // begins after the change is refused (NamedTensors::mapped_file); one under
  // way is not saved. To replace the file by rename, as WriteSafetensors does,
  // is safe.
  kMapped,
  // The tensors are copies of their own; the file may do what it likes.
  kCopied,
};

// Reads a safetensors file. Tensors come in the order of their bytes, each on a
// storage of its own. One whose bytes are not aligned to its elements is
// copied.
//
// NOT_FOUND, PERMISSION_DENIED: the file. INVALID_ARGUMENT: not a regular file,
// or not a safetensors file: names the file and what ParseSafetensorsHeader
// says. RESOURCE_EXHAUSTED: no memory or address space.
absl::StatusOr<NamedTensors> ReadSafetensors(
    const std::string& path,
    SafetensorsMemory memory = SafetensorsMemory::kMapped);

// Writes a safetensors file: to a new file in the same folder, flushed to the
// disk, then renamed over `path` (see AtomicFile). Whoever looks, also after a
// crash of process or machine, sees the old file or the new one.
//
// If contents.file_header describes the tensors as they are, the file gets it
// and so is the one that was read, byte for byte. Otherwise the header is
// written anew, wider elements first, else in the order given. Tensors may be
// of any strides and devices; what is not a contiguous CPU tensor is copied,
// one at a time.
//
// INVALID_ARGUMENT: a tensor that the format cannot hold (sparse, quantised, a
// dtype without a name), one called "__metadata__", what CheckNamed refuses, or
// `path` is not a regular file. NOT_FOUND: the folder. PERMISSION_DENIED.
// RESOURCE_EXHAUSTED: the disk is full, or no memory. Nothing is changed then.
// UNKNOWN: the new file is there, but a crash of the machine might take it
// back. What `check` says, which is asked when all is written, just before the
// file gets its name.
absl::Status WriteSafetensors(
    const std::string& path, const NamedTensors& contents,
    absl::FunctionRef<absl::Status()> check = absl::OkStatus);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_SAFETENSORS_H_
