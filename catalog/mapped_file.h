#ifndef TENSORFERRY_CATALOG_MAPPED_FILE_H_
#define TENSORFERRY_CATALOG_MAPPED_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tensorferry {

// A file's pages, mapped privately: writes to them stay in this process. Writes
// to the file show in pages that were not touched yet, so whoever is about to
// send them asks CheckUnchanged. Thread-safe but for the pages.
class MappedFile {
 public:
  // Maps the open file `fd`, all of it as it was `found`, and keeps a
  // descriptor of its own. `path` is for messages. RESOURCE_EXHAUSTED: no
  // address space.
  static absl::StatusOr<std::shared_ptr<MappedFile>> Create(
      int fd, const struct stat& found, const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* at(size_t offset) const { return pages_ + offset; }

  // FAILED_PRECONDITION: its size or its time of change is not what it was. A
  // file that was replaced by rename or removed is as it was.
  absl::Status CheckUnchanged() const;

 private:
  MappedFile(std::string path, int fd, const struct stat& found,
             std::byte* pages);

  const std::string path_;
  const int fd_;
  const struct stat found_;
  std::byte* const pages_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_MAPPED_FILE_H_
