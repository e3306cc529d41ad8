#ifndef TENSORFERRY_CATALOG_CHAIN_H_
#define TENSORFERRY_CATALOG_CHAIN_H_

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "transfer/link.h"

namespace tensorferry {

// Operations that follow one another and are cancelled as one. Thread-safe.
class Chain {
 public:
  // `operation` is what is under way now.
  void SetCurrent(Operation operation) {
    bool cancelled;
    {
      absl::MutexLock lock(&mu_);
      current_ = operation;
      cancelled = cancelled_;
    }
    if (cancelled) operation.Cancel();
  }

  // Also of those that are still to come.
  void Cancel() {
    Operation current;
    {
      absl::MutexLock lock(&mu_);
      cancelled_ = true;
      current = current_;
    }
    current.Cancel();
  }

 private:
  absl::Mutex mu_;
  Operation current_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_CHAIN_H_
