#include "control/reloaded_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

FileStamp ToStamp(const struct stat& found) {
  return {found.st_dev, found.st_ino, static_cast<uint64_t>(found.st_size),
          found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat found = {};
  if (stat(path.c_str(), &found) != 0) return {};
  return ToStamp(found);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          FileStamp* stamp) {
  // Without O_NONBLOCK a pipe without a writer would keep us for ever.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat found = {};
  if (fstat(fd, &found) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(found.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is no file"));
  }
  std::string text(kMaxBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd, text.data() + size, text.size() - size);
    if (got < 0) return absl::ErrnoToStatus(errno, path);
    if (got == 0) break;
    size += got;
  }
  if (size > kMaxBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": has more than ", kMaxBytes, " bytes"));
  }
  text.resize(size);
  *stamp = ToStamp(found);
  return text;
}

}  // namespace tensorferry
