#ifndef TENSORFERRY_TESTS_TRANSFER_LINK_FIXTURE_H_
#define TENSORFERRY_TESTS_TRANSFER_LINK_FIXTURE_H_

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "base/clock.h"
#include "base/executor.h"
#include "transfer/in_process_pair.h"

namespace tensorferry {

// The result of an asynchronous operation, to be waited for.
template <class Result>
class Awaited {
 public:
  auto done() {
    return [promise = promise_](Result result) {
      promise->set_value(std::move(result));
    };
  }
  // Once.
  Result Wait() { return result_.get(); }
  bool ComesWithin(std::chrono::milliseconds time) const {
    return result_.wait_for(time) == std::future_status::ready;
  }

 private:
  std::shared_ptr<std::promise<Result>> promise_ =
      std::make_shared<std::promise<Result>>();
  std::future<Result> result_ = promise_->get_future();
};

template <class T>
using Outcome = Awaited<absl::StatusOr<T>>;
using StatusOutcome = Awaited<absl::Status>;

// Lets a minute pass, second by second, or less if `outcome` comes earlier.
template <class Result>
bool PassTimeUntil(const Awaited<Result>& outcome, FakeClock& clock) {
  for (int second = 0; second < 60; ++second) {
    if (outcome.ComesWithin(std::chrono::milliseconds(50))) return true;
    clock.Advance(absl::Seconds(1));
  }
  return outcome.ComesWithin(std::chrono::seconds(30));
}

// Bytes that depend on where they are and on `seed`.
at::Tensor Pattern(int64_t nbytes, uint8_t seed);
// A message with one tensor of Pattern(nbytes, seed), called "data".
TensorMessage PatternMessage(int64_t nbytes, uint8_t seed, int64_t id = 0);
bool SameBytes(const at::Tensor& a, const at::Tensor& b);

TransferRules BasicRules();

// Sends a message whose callback stops the link's loop: what comes meanwhile is
// heard in one turn.
class HeldLoop {
 public:
  explicit HeldLoop(Link& link);
  // Once the peer has acknowledged the message.
  void AwaitHeld() { held_.WaitForNotification(); }
  void GoOn() { go_on_.Notify(); }

 private:
  absl::Notification held_, go_on_;
};

// Two linked endpoints in this process.
class LinkTest : public ::testing::Test {
 protected:
  void Connect(TransferRules rules, Clock* clock = Clock::Real(),
               std::optional<uint64_t> pool_bytes = std::nullopt);
  // The other way round: what `callee` sends, `caller` receives.
  Link& caller() { return *pair_->caller; }
  Link& callee() { return *pair_->callee; }

  absl::StatusOr<Received> Transfer(TensorMessage message,
                                    ReceiveOptions options = {});

  // Declared first: outlives the endpoints.
  FakeClock fake_clock_;
  ThreadPool executor_{2};
  std::unique_ptr<InProcessPair> pair_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_LINK_FIXTURE_H_
