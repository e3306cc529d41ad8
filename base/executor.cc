#include "base/executor.h"

#include <utility>

#include "absl/cleanup/cleanup.h"

namespace tensorferry {
namespace {

class InlineExecutor : public Executor {
 public:
  void Run(Task task) override { std::move(task)(); }
};

}  // namespace

Executor* Executor::Inline() {
  static Executor* const executor = new InlineExecutor;
  return executor;
}

ThreadPool::ThreadPool(int threads) {
  threads_.reserve(threads);
  // If there is one too few, those that run must not outlive this.
  absl::Cleanup stop = [this] { Stop(); };
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
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
