#ifndef TENSORFERRY_BASE_DESCRIPTOR_BUDGET_H_
#define TENSORFERRY_BASE_DESCRIPTOR_BUDGET_H_

#include <dirent.h>

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

// The file descriptors of this process, so that what needs several is refused
// before it begins, not in its middle. What is open counts itself; what is
// about to be opened is claimed. Some are kept back for connections that have
// to be told why they are refused. Thread-safe.
//
//   auto claim = DescriptorBudget::OfProcess().Take(16, "a session");
//   ... open them ...  // and then drop the claim
class DescriptorBudget {
 public:
  // Descriptors that are spoken for, until it goes.
  class Claim {
   public:
    Claim(Claim&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)),
          count_(other.count_) {}
    Claim& operator=(Claim&&) = delete;
    ~Claim();

   private:
    friend class DescriptorBudget;
    Claim(DescriptorBudget* budget, int count)
        : budget_(budget), count_(count) {}
    DescriptorBudget* budget_;
    int count_;
  };

  static DescriptorBudget& OfProcess();

  // Never given to a claim.
  static constexpr int kKeptBack = 8;

  // RESOURCE_EXHAUSTED: `what` would need more than there are, with numbers.
  absl::StatusOr<Claim> Take(int count, absl::string_view what);

  // Neither open, nor claimed, nor kept back; negative when those kept back
  // are being used.
  int Free();

 private:
  DescriptorBudget();
  int OpenNow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int FreeNow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;
  DIR* open_ ABSL_GUARDED_BY(mu_);  // /proc/self/fd; null: there is none
  int claimed_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_DESCRIPTOR_BUDGET_H_
