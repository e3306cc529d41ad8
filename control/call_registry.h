// Internal to control/.
#ifndef TENSORFERRY_CONTROL_CALL_REGISTRY_H_
#define TENSORFERRY_CONTROL_CALL_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

// What is under way, so that the end of the client can cancel and await it.
class CallRegistry {
 public:
  using Id = uint64_t;

  Id Add(std::function<void()> cancel) {
    absl::MutexLock lock(&mu_);
    calls_.emplace(++last_, std::move(cancel));
    return last_;
  }
  // The last that a call does with the client.
  void Remove(Id id) {
    std::function<void()> dropped;  // destroyed after the lock
    absl::MutexLock lock(&mu_);
    auto call = calls_.find(id);
    dropped = std::move(call->second);
    calls_.erase(call);
  }
  void CancelAndAwaitAll() {
    std::map<Id, std::function<void()>> calls;
    {
      absl::MutexLock lock(&mu_);
      calls = calls_;
    }
    for (auto& [id, cancel] : calls) cancel();
    calls.clear();
    absl::MutexLock lock(&mu_);
    auto none = [this]()
                    ABSL_NO_THREAD_SAFETY_ANALYSIS { return calls_.empty(); };
    mu_.Await(absl::Condition(&none));
  }

 private:
  absl::Mutex mu_;
  Id last_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Id, std::function<void()>> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_CALL_REGISTRY_H_
