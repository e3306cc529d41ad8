#include "base/executor.h"

#include <sched.h>

#include <utility>

#include "absl/cleanup/cleanup.h"

namespace tensorferry {
namespace {

class InlineExecutor : public Executor {
 public:
  void Run(Task task) override { std::move(task)(); }
};

// Of `count` shares of the processors that this thread may use now, one: every
// `count`-th, so that each has some of each memory node. Not followed when the
// process may use others later.
void TakeShareOfProcessors(int share, int count) {
  cpu_set_t all, own;
  if (sched_getaffinity(0, sizeof(all), &all) != 0) return;
  if (CPU_COUNT(&all) < count) return;
  CPU_ZERO(&own);
  int seen = 0;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &all)) continue;
    if (seen++ % count == share) CPU_SET(processor, &own);
  }
  sched_setaffinity(0, sizeof(own), &own);
}

}  // namespace

Executor* Executor::Inline() {
  static Executor* const executor = new InlineExecutor;
  return executor;
}

ThreadPool::ThreadPool(int threads, Processors processors) {
  threads_.reserve(threads);
  // If there is one too few, those that run must not outlive this.
  absl::Cleanup stop = [this] { Stop(); };
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([=, this] {
      if (processors == Processors::kApart) TakeShareOfProcessors(i, threads);
      Work();
    });
  }
  std::move(stop).Cancel();
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(Task task) {
  absl::MutexLock lock(&mu_);
  tasks_.push_back(std::move(task));
}

void ThreadPool::Work() {
  auto ready = [this] { return stopping_ || !tasks_.empty(); };
  while (true) {
    Task task;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&ready));
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    std::move(task)();
  }
}

}  // namespace tensorferry
