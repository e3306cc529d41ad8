#include "transfer/reaper.h"

#include <utility>

namespace tensorferry {

Reaper::Reaper() : thread_([this] { Work(); }) {}

Reaper::~Reaper() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

void Reaper::Reap(std::shared_ptr<tensorpipe::Context> context) {
  absl::MutexLock lock(&mu_);
  contexts_.push_back(std::move(context));
}

void Reaper::Work() {
  auto woken = [this] { return stopping_ || !contexts_.empty(); };
  while (true) {
    std::shared_ptr<tensorpipe::Context> context;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&woken));
      if (contexts_.empty()) return;
      context = std::move(contexts_.front());
      contexts_.pop_front();
    }
    try {
      context->close();
      context->join();
    } catch (...) {
      // It was closed; what it threw concerns nobody any more.
    }
  }
}

}  // namespace tensorferry
