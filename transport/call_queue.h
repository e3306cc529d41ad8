#ifndef TENSORFERRY_TRANSPORT_CALL_QUEUE_H_
#define TENSORFERRY_TRANSPORT_CALL_QUEUE_H_

#include <atomic>
#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/executor.h"
#include "base/loop.h"

namespace tensorferry {

// Calls to an object that belongs to a loop, from any thread: they run on the
// loop in the order in which they were made, at once where that is possible.
class CallQueue {
 public:
  explicit CallQueue(Loop* loop) : loop_(loop) {}

  // `owner` holds this queue and lives until `call` has run.
  template <class Owner, class Call>
  void Run(const std::shared_ptr<Owner>& owner, Call&& call) {
    // Those from other threads that are still to run come first.
    if (loop_->OnLoopThread() && waiting_.load() == 0) {
      std::forward<Call>(call)();
      return;
    }
    if (!Add(std::forward<Call>(call))) return;
    if (loop_->OnLoopThread()) {
      RunAll();
    } else {
      loop_->Post([this, owner] { RunAll(); });
    }
  }

 private:
  // Whether there is nobody yet who will run it.
  bool Add(Task call) {
    absl::MutexLock lock(&mu_);
    calls_.push_back(std::move(call));
    return waiting_.fetch_add(1) == 0;
  }

  void RunAll() {
    do {
      Task call;
      {
        absl::MutexLock lock(&mu_);
        call = std::move(calls_.front());
        calls_.pop_front();
      }
      std::move(call)();
      // It counts as waiting while it runs: what it calls must not overtake
      // those behind it.
    } while (waiting_.fetch_sub(1) != 1);
  }

  Loop* const loop_;
  std::atomic<int> waiting_{0};
  absl::Mutex mu_;
  std::deque<Task> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_CALL_QUEUE_H_
