#ifndef TENSORFERRY_TRANSFER_REAPER_H_
#define TENSORFERRY_TRANSFER_REAPER_H_

#include <tensorpipe/core/context.h>

#include <deque>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

// Closes and joins tensorpipe contexts on a thread of its own: in a callback
// that would deadlock, on the loop it would hold up everybody. The destructor
// waits until all are gone. Thread-safe.
class Reaper {
 public:
  Reaper();
  ~Reaper();
  void Reap(std::shared_ptr<tensorpipe::Context> context);

 private:
  void Work();

  absl::Mutex mu_;
  std::deque<std::shared_ptr<tensorpipe::Context>> contexts_
      ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_REAPER_H_
