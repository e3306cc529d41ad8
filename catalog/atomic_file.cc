#include "catalog/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/random_bytes.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

// The kernel takes at most about 2 GiB in one write.
constexpr size_t kMaxWrite = size_t{1} << 30;

// Where a file called `path` is to stand: the end of its links.
absl::StatusOr<std::string> FollowLinks(const std::string& path) {
  struct stat found;
  if (lstat(path.c_str(), &found) != 0 || !S_ISLNK(found.st_mode)) return path;
  char* const target = realpath(path.c_str(), nullptr);
  if (target == nullptr) {
    return FileError(errno, absl::StrCat("cannot follow the link ", path));
  }
  const absl::Cleanup free_target = [target] { free(target); };
  return std::string(target);
}

// The permissions of the file that will be replaced; nothing if there is none.
absl::StatusOr<std::optional<mode_t>> ModeOfReplaced(const std::string& path) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return std::optional<mode_t>();
    return FileError(errno, absl::StrCat("cannot look at ", path));
  }
  if (S_ISREG(found.st_mode)) return std::optional(found.st_mode & 07777);
  return absl::InvalidArgumentError(absl::StrCat(
      path, " is not a regular file: name a file that may be replaced"));
}

// How a file without a name is called, to give it one.
std::string UnnamedPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

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
    const std::string& given) {
  FERRY_ASSIGN_OR_RETURN(const std::string path, FollowLinks(given));
  FERRY_ASSIGN_OR_RETURN(const std::optional<mode_t> mode,
                         ModeOfReplaced(path));
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
  uint32_t random;
  FERRY_RETURN_IF_ERROR(RandomBytes(&random, sizeof(random)));
  const std::string partial =
      absl::StrCat(folder, "/.", name.substr(0, 200), ".",
                   absl::Hex(random, absl::kZeroPad8), ".partial");
  auto file = absl::WrapUnique(new AtomicFile(path, folder, partial));
  FERRY_RETURN_IF_ERROR(file->Open());
  if (mode.has_value() && fchmod(file->fd_, *mode) != 0) {
    return FileError(errno, absl::StrCat("cannot set the mode of ", partial));
  }
  return file;
}

AtomicFile::AtomicFile(std::string path, std::string folder,
                       std::string partial)
    : path_(std::move(path)),
      folder_(std::move(folder)),
      partial_(std::move(partial)) {}

absl::Status AtomicFile::Open() {
  fd_ = open(folder_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (fd_ >= 0 && access(UnnamedPath(fd_).c_str(), F_OK) == 0) {
    return absl::OkStatus();
  }
  // Not on every file system, and not without /proc.
  if (fd_ >= 0) close(fd_);
  fd_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0)
    return FileError(errno, absl::StrCat("cannot create ", partial_));
  named_ = true;
  return absl::OkStatus();
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  if (named_) unlink(partial_.c_str());
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
  if (!named_) {
    if (linkat(AT_FDCWD, UnnamedPath(fd_).c_str(), AT_FDCWD, partial_.c_str(),
               AT_SYMLINK_FOLLOW) != 0) {
      return FileError(errno, absl::StrCat("cannot name a file ", partial_));
    }
    named_ = true;
  }
  if (rename(partial_.c_str(), path_.c_str()) != 0) {
    return FileError(errno, absl::StrCat("cannot rename a file to ", path_));
  }
  close(std::exchange(fd_, -1));
  const absl::Status synced = SyncFolder(folder_);
  if (synced.ok()) return synced;
  return absl::UnknownError(
      absl::StrCat(path_, " is written, but a crash might take it back: ",
                   std::string(synced.message())));
}

}  // namespace tensorferry
