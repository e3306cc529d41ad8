#ifndef TENSORFERRY_SESSION_BACK_OFF_H_
#define TENSORFERRY_SESSION_BACK_OFF_H_

#include <cstdint>
#include <optional>
#include <random>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tensorferry {

struct BackOffOptions {
  absl::Duration first = absl::Milliseconds(100);  // the first pause
  absl::Duration longest = absl::Seconds(10);
  double growth = 2;    // of each pause over the one before
  double jitter = 0.2;  // a pause is up to that part shorter or longer
  int attempts = 0;     // that may fail in a row; 0: any number
};

// How long to wait before something that failed is tried again: pure, so that
// it can be tested without waiting.
class BackOff {
 public:
  // `seed`: peers that failed together should not try again together.
  BackOff(BackOffOptions options, uint64_t seed)
      : options_(options), random_(seed) {}

  // The pause after a failure; none if another try makes no sense: the status
  // is not one of a peer that may come back (UNAVAILABLE, DEADLINE_EXCEEDED,
  // RESOURCE_EXHAUSTED), or there were enough.
  std::optional<absl::Duration> After(const absl::Status& failure);
  // It worked: the next pause is the first again.
  void Reset() { failures_ = 0; }

 private:
  const BackOffOptions options_;
  std::mt19937_64 random_;
  int failures_ = 0;  // in a row
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_BACK_OFF_H_
