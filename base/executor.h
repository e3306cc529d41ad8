#ifndef TENSORFERRY_BASE_EXECUTOR_H_
#define TENSORFERRY_BASE_EXECUTOR_H_

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

using Task = absl::AnyInvocable<void() &&>;

// Where user callbacks and long work (digests, large deserialisations) run.
// Thread-safe. Every task given to Run runs exactly once.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void Run(Task task) = 0;
  // The same before it returns, on the calling thread.
  virtual void RunHere(Task task) { std::move(task)(); }

  static Executor* Inline();  // runs tasks on the calling thread
};

// A fixed number of threads; tasks start in the order of Run. The destructor
// runs what is queued, then joins; it must not run on one of the threads.
class ThreadPool : public Executor {
 public:
  // kApart: of the processors that who makes it may use, each thread has a
  // share of its own, if there are enough. For tasks of milliseconds that
  // nothing interrupts: Linux may put a thread that wakes behind another one
  // that works, and leaves it there for such a time though a processor idles.
  enum class Processors { kAny, kApart };
  // Throws std::system_error if the system has no more threads.
  explicit ThreadPool(int threads, Processors processors = Processors::kAny);
  ~ThreadPool() override;
  void Run(Task task) override;

 private:
  void Work();
  void Stop();

  absl::Mutex mu_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_EXECUTOR_H_
