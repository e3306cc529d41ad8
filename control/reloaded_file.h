#ifndef TENSORFERRY_CONTROL_RELOADED_FILE_H_
#define TENSORFERRY_CONTROL_RELOADED_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "base/user_code.h"

namespace tensorferry {

// Is told when a file was read again: OK, or why what was read before still
// counts. On the thread that found it changed, maybe on several at once; be
// short. It may ask what the file says.
using OnReload =
    std::function<void(const std::string& path, const absl::Status& status)>;

// Which file stands at a path, and as of when.
struct FileStamp {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t seconds = 0, nanoseconds = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

// The file's bytes, at most 1 MiB, and its stamp as of before they were read.
// The system's error, with the path; RESOURCE_EXHAUSTED: it is longer.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          FileStamp* stamp);
// All zeroes if there is no such file.
FileStamp StampOf(const std::string& path);

// What a file says, read again when the file is another one: asked, not
// watched, so it costs no thread. Thread-safe. Replace the file by renaming
// another over it; what is read half is told and not believed, and read again.
template <class T>
class ReloadedFile {
 public:
  using Parse = absl::StatusOr<T> (*)(absl::string_view text);

  static absl::StatusOr<std::unique_ptr<ReloadedFile>> Open(
      const std::string& path, Parse parse, OnReload on_reload) {
    std::unique_ptr<ReloadedFile> file(
        new ReloadedFile(path, parse, std::move(on_reload)));
    absl::MutexLock lock(&file->mu_);
    FERRY_RETURN_IF_ERROR(file->Read());
    return file;
  }

  // What the newest file that could be read says.
  std::shared_ptr<const T> Get() {
    std::shared_ptr<const T> value;
    absl::Status read;
    {
      absl::MutexLock lock(&mu_);
      if (StampOf(path_) == stamp_) return value_;
      read = Read();
      value = value_;
    }
    if (on_reload_) {
      RunUserCode("on_reload", [&] { on_reload_(path_, read); }).IgnoreError();
    }
    return value;
  }

 private:
  ReloadedFile(std::string path, Parse parse, OnReload on_reload)
      : path_(std::move(path)),
        parse_(parse),
        on_reload_(std::move(on_reload)) {}

  absl::Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    stamp_ = StampOf(path_);  // also of one that cannot be read: told once
    FERRY_ASSIGN_OR_RETURN(const std::string text,
                           ReadSmallFile(path_, &stamp_));
    absl::StatusOr<T> parsed = parse_(text);
    if (!parsed.ok()) {
      return absl::Status(
          parsed.status().code(),
          absl::StrCat(path_, ":", std::string(parsed.status().message())));
    }
    value_ = std::make_shared<const T>(*std::move(parsed));
    return absl::OkStatus();
  }

  const std::string path_;
  const Parse parse_;
  const OnReload on_reload_;
  absl::Mutex mu_;
  FileStamp stamp_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const T> value_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_RELOADED_FILE_H_
