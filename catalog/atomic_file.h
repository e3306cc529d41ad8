#ifndef TENSORFERRY_CATALOG_ATOMIC_FILE_H_
#define TENSORFERRY_CATALOG_ATOMIC_FILE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// A file that appears under its name complete or not at all: written without a
// name in the same folder, flushed to the disk, then named and renamed to what
// it replaces, whose permissions it gets. Not thread-safe. Dropped without
// Commit, or when the process dies, it leaves nothing behind; but where the
// file system has no files without a name, a death leaves
// ".<name>.<random>.partial".
class AtomicFile {
 public:
  // A symbolic link is followed: the file that it names is replaced.
  // NOT_FOUND: no such folder, or a link to nothing. PERMISSION_DENIED.
  // INVALID_ARGUMENT: `path` is there and is not a regular file, or names none.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(
      const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // RESOURCE_EXHAUSTED: the disk is full.
  absl::Status Append(const void* data, size_t nbytes);
  absl::Status Append(absl::string_view text) {
    return Append(text.data(), text.size());
  }

  // Once, as the last call. OK: the file has its name, and a crash of the
  // machine will not take it back. UNKNOWN: the new file has its name, but a
  // crash of the machine might take it back. After any other status the old
  // file is in place.
  absl::Status Commit();

 private:
  AtomicFile(std::string path, std::string folder, std::string partial);
  absl::Status Open();

  const std::string path_, folder_, partial_;
  int fd_ = -1;         // -1 after Commit, too
  bool named_ = false;  // it is called partial_
};

// The status for `error`, an errno, with what was tried: "cannot open /x".
absl::Status FileError(int error, absl::string_view what);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_ATOMIC_FILE_H_
