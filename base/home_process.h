#ifndef TENSORFERRY_BASE_HOME_PROCESS_H_
#define TENSORFERRY_BASE_HOME_PROCESS_H_

#include <sys/types.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {

// The process that made an object. A child after fork has a copy of the
// object's memory but none of its threads, and locks as they were held just
// then: there nothing may wait, lock or be destroyed.
class HomeProcess {
 public:
  bool IsThis() const { return ::getpid() == pid_; }
  // FAILED_PRECONDITION: this is a child of it.
  absl::Status Check() const {
    if (IsThis()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("made in process ", pid_, ", used in its forked child ",
                     ::getpid(), ": a child makes a peer of its own"));
  }

 private:
  const pid_t pid_ = ::getpid();
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_HOME_PROCESS_H_
