#include "catalog/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "catalog/atomic_file.h"

namespace tensorferry {

absl::StatusOr<std::shared_ptr<MappedFile>> MappedFile::Create(
    int fd, const struct stat& found, const std::string& path) {
  const int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own_fd < 0) return FileError(errno, "cannot keep it open");
  void* const pages = mmap(nullptr, found.st_size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (pages == MAP_FAILED) {
    const int error = errno;
    close(own_fd);
    return FileError(error, "cannot map it");
  }
  return absl::WrapUnique(
      new MappedFile(path, own_fd, found, static_cast<std::byte*>(pages)));
}

MappedFile::MappedFile(std::string path, int fd, const struct stat& found,
                       std::byte* pages)
    : path_(std::move(path)), fd_(fd), found_(found), pages_(pages) {}

MappedFile::~MappedFile() {
  munmap(pages_, found_.st_size);
  close(fd_);
}

absl::Status MappedFile::CheckUnchanged() const {
  struct stat now;
  if (fstat(fd_, &now) != 0) {
    return FileError(errno, absl::StrCat("cannot look at ", path_));
  }
  if (now.st_size == found_.st_size &&
      now.st_mtim.tv_sec == found_.st_mtim.tv_sec &&
      now.st_mtim.tv_nsec == found_.st_mtim.tv_nsec) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the file ", path_, " changed since it was opened: it had ",
      found_.st_size, " bytes, and has ", now.st_size,
      "; open it again, and replace files by renaming others over them"));
}

}  // namespace tensorferry
