#ifndef TENSORFERRY_SERIALIZATION_DIGEST_HELPERS_H_
#define TENSORFERRY_SERIALIZATION_DIGEST_HELPERS_H_

#include <atomic>
#include <memory>

#include "base/executor.h"

namespace tensorferry {

// Threads that help to digest when they have nothing else to do. Thread-safe.
class DigestHelpers {
 public:
  // At most `most` tasks that have not begun wait in `threads`, also while
  // somebody holds these up for ever.
  DigestHelpers(Executor* threads, int most) : threads_(threads), most_(most) {}

  int most() const { return most_; }
  // Runs `help` there, later or never.
  void Ask(Task help);

 private:
  Executor* const threads_;
  const int most_;
  // Outlives this: what comes too late to help is still there.
  const std::shared_ptr<std::atomic<int>> waiting_ =
      std::make_shared<std::atomic<int>>(0);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DIGEST_HELPERS_H_
