#ifndef TENSORFERRY_CLI_INBOX_H_
#define TENSORFERRY_CLI_INBOX_H_

#include <cstdint>
#include <ctime>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "catalog/catalog.h"
#include "catalog/named_tensors.h"
#include "cli/output.h"

namespace tensorferry::cli {

// The folder of `serve --accept`: what is pushed becomes a file in it, and its
// files are published when the server starts again. It replaces no file that it
// has not published, unless that was put there in the moment between a last look
// and the renaming. Thread-safe.
class Inbox {
 public:
  explicit Inbox(std::string folder) : folder_(std::move(folder)) {}

  // Publishes the files that are in the folder; those that cannot be are named
  // in the log and stay as they are. NOT_FOUND, INVALID_ARGUMENT,
  // PERMISSION_DENIED: the folder.
  absl::Status PublishAll(Catalog& catalog, Output& output);

  // Whether a push would be taken. ALREADY_EXISTS: a file of this name is there
  // that was not published from here. RESOURCE_EXHAUSTED: no room on the disk.
  // Else what AtomicFile::Create says.
  absl::Status Check(const std::string& bundle, uint64_t nbytes) const;

  // Writes a push to its file, and returns what stands there: the file's pages,
  // so that memory is not kept for it.
  absl::StatusOr<NamedTensors> Take(const std::string& bundle,
                                    const NamedTensors& contents);

 private:
  // Which file it is, and as of when.
  struct Identity {
    uint64_t inode = 0;
    int64_t seconds = 0, nanoseconds = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  static absl::StatusOr<Identity> Identify(const std::string& path);

  std::string PathOf(const std::string& bundle) const;
  // Reads the file of `bundle` and publishes it.
  absl::Status Publish(const std::string& bundle, Catalog& catalog,
                       Output& output);
  absl::Status CheckOwn(const std::string& bundle) const;

  const std::string folder_;
  mutable absl::Mutex mu_;
  std::map<std::string, Identity> published_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_INBOX_H_
