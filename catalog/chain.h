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
  // `start` begins the next operation and returns it. That may end, and the one
  // after it begin, before `start` returns.
  template <class Start>
  void Run(Start start) {
    const int step = NextStep();
    Operation operation = std::move(start)();
    if (!SetCurrent(step, operation)) operation.Cancel();
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
  int NextStep() {
    absl::MutexLock lock(&mu_);
    return ++begun_;
  }

  // False: it is to be cancelled.
  bool SetCurrent(int step, const Operation& operation) {
    absl::MutexLock lock(&mu_);
    if (step == begun_) current_ = operation;  // else it has ended
    return !cancelled_;
  }

  absl::Mutex mu_;
  int begun_ ABSL_GUARDED_BY(mu_) = 0;
  Operation current_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_CHAIN_H_
