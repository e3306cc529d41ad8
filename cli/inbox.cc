#include "cli/inbox.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/atomic_file.h"
#include "catalog/safetensors.h"
#include "cli/bundle_name.h"
#include "cli/values.h"

namespace tensorferry::cli {
namespace {

absl::Status CheckFolder(const std::string& folder) {
  const std::string what = absl::StrCat("--accept ", folder);
  struct stat found;
  if (stat(folder.c_str(), &found) != 0) return FileError(errno, what);
  if (!S_ISDIR(found.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is not a folder"));
  }
  if (access(folder.c_str(), R_OK | W_OK | X_OK) != 0) {
    return FileError(errno, what);
  }
  return absl::OkStatus();
}

// The paths of the safetensors files in `folder`, in order.
std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end;
       !error && at != end; at.increment(error)) {
    const std::string path = at->path().string();
    if (absl::EndsWith(path, ".safetensors")) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

std::string Inbox::PathOf(const std::string& bundle) const {
  return absl::StrCat(folder_, "/", bundle, ".safetensors");
}

absl::StatusOr<Inbox::Identity> Inbox::Identify(const std::string& path) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) {
    return FileError(errno, absl::StrCat("cannot look at ", path));
  }
  return Identity{found.st_ino, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

absl::Status Inbox::Publish(const std::string& bundle, Catalog& catalog,
                            Output& output) {
  const std::string path = PathOf(bundle);
  // First which file it is: one that comes in between is not taken for it.
  FERRY_ASSIGN_OR_RETURN(const Identity identity, Identify(path));
  FERRY_ASSIGN_OR_RETURN(NamedTensors contents, ReadSafetensors(path));
  const std::string what =
      absl::StrCat(path, " as ", bundle, ": ", contents.names.size(),
                   " tensors, ", ShowBytes(ByteSize(contents)));
  FERRY_RETURN_IF_ERROR(catalog.Publish(bundle, std::move(contents)).status());
  output.Log(absl::StrCat("publishing ", what));
  absl::MutexLock lock(&mu_);
  published_[bundle] = identity;
  return absl::OkStatus();
}

absl::Status Inbox::PublishAll(Catalog& catalog, Output& output) {
  FERRY_RETURN_IF_ERROR(CheckFolder(folder_));
  for (const std::string& path : FilesIn(folder_)) {
    const absl::StatusOr<std::string> bundle = BundleNameOf(path);
    const absl::Status status =
        bundle.ok() ? Publish(*bundle, catalog, output) : bundle.status();
    if (status.ok()) continue;
    output.Log(absl::StrCat("not publishing ", OneLine(path), ": ",
                            OneLine(status.ToString())));
  }
  return absl::OkStatus();
}

absl::Status Inbox::CheckOwn(const std::string& bundle) const {
  const absl::StatusOr<Identity> there = Identify(PathOf(bundle));
  if (absl::IsNotFound(there.status())) return absl::OkStatus();
  FERRY_RETURN_IF_ERROR(there.status());
  absl::MutexLock lock(&mu_);
  const auto own = published_.find(bundle);
  if (own != published_.end() && own->second == *there) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(PathOf(bundle),
                   " was put there by somebody else and is not replaced: "
                   "start the server again to publish it, or remove it"));
}

absl::Status Inbox::Check(const std::string& bundle, uint64_t nbytes) const {
  FERRY_RETURN_IF_ERROR(CheckOwn(bundle));
  FERRY_RETURN_IF_ERROR(AtomicFile::Create(PathOf(bundle)).status());
  struct statvfs disk;
  if (statvfs(folder_.c_str(), &disk) != 0) return absl::OkStatus();
  const uint64_t free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (nbytes <= free_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the tensors have ", nbytes, " bytes, and the disk of ",
                   folder_, " has ", free_bytes, " free"));
}

absl::StatusOr<NamedTensors> Inbox::Take(const std::string& bundle,
                                         const NamedTensors& contents) {
  // Large ones take minutes to write: somebody may put a file there meanwhile.
  const auto check = [&] { return CheckOwn(bundle); };
  FERRY_RETURN_IF_ERROR(check());
  const absl::Status written =
      WriteSafetensors(PathOf(bundle), contents, check);
  // The file is there after UNKNOWN, too, and the next push may replace it.
  if (!written.ok() && !absl::IsUnknown(written)) return written;
  FERRY_ASSIGN_OR_RETURN(const Identity identity, Identify(PathOf(bundle)));
  {
    absl::MutexLock lock(&mu_);
    published_[bundle] = identity;
  }
  FERRY_RETURN_IF_ERROR(written);
  return ReadSafetensors(PathOf(bundle));
}

}  // namespace tensorferry::cli
