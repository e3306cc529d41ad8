#include "catalog/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

// The kernel takes at most about 2 GiB in one write.
constexpr size_t kMaxWrite = size_t{1} << 30;

absl::Status CheckReplaceable(const std::string& path) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return FileError(errno, absl::StrCat("cannot look at ", path));
  }
  if (S_ISREG(found.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, " is not a regular file: name a file that may be replaced"));
}

absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, absl::StrCat("cannot open ", folder));
  const int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  // Some file systems have no way to flush a folder, and no need.
  if (error == 0 || error == EINVAL) return absl::OkStatus();
  return FileError(error, absl::StrCat("cannot flush ", folder));
}

}  // namespace

absl::Status FileError(int error, absl::string_view what) {
  if (error == EDQUOT || error == EFBIG) error = ENOSPC;
  return absl::ErrnoToStatus(error, what);
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    const std::string& path) {
  FERRY_RETURN_IF_ERROR(CheckReplaceable(path));
  const size_t slash = path.rfind('/');
  const std::string name =
      slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" names no file"));
  }
  const std::string folder = slash == std::string::npos ? "."
                             : slash == 0               ? "/"
                                                        : path.substr(0, slash);
  std::random_device random;
  const std::string partial =
      absl::StrCat(folder, "/.", name.substr(0, 200), ".",
                   absl::Hex(random(), absl::kZeroPad8), ".partial");
  const int fd =
      open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(errno, absl::StrCat("cannot create ", partial));
  return absl::WrapUnique(new AtomicFile(path, folder, partial, fd));
}

AtomicFile::AtomicFile(std::string path, std::string folder,
                       std::string partial, int fd)
    : path_(std::move(path)),
      folder_(std::move(folder)),
      partial_(std::move(partial)),
      fd_(fd) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(partial_.c_str());
}

absl::Status AtomicFile::Append(const void* data, size_t nbytes) {
  const char* next = static_cast<const char*>(data);
  while (nbytes > 0) {
    const ssize_t written = write(fd_, next, std::min(nbytes, kMaxWrite));
    if (written < 0) {
      if (errno == EINTR) continue;
      return FileError(errno, absl::StrCat("cannot write ", path_));
    }
    next += written;
    nbytes -= written;
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  if (fsync(fd_) != 0) {
    return FileError(errno, absl::StrCat("cannot flush ", path_));
  }
  if (rename(partial_.c_str(), path_.c_str()) != 0) {
    return FileError(errno, absl::StrCat("cannot rename a file to ", path_));
  }
  close(std::exchange(fd_, -1));
  return SyncFolder(folder_);
}

}  // namespace tensorferry
