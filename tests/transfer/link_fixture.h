#ifndef TENSORFERRY_TESTS_TRANSFER_LINK_FIXTURE_H_
#define TENSORFERRY_TESTS_TRANSFER_LINK_FIXTURE_H_

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/executor.h"
#include "transfer/in_process_pair.h"

namespace tensorferry {

// The result of an asynchronous operation, to be waited for.
template <class T>
class Outcome {
 public:
  Done<T> done() {
    return [state = state_](absl::StatusOr<T> result) {
      state->set_value(std::move(result));
    };
  }
  // Once.
  absl::StatusOr<T> Wait() { return state_->get_future().get(); }

 private:
  std::shared_ptr<std::promise<absl::StatusOr<T>>> state_ =
      std::make_shared<std::promise<absl::StatusOr<T>>>();
};

class StatusOutcome {
 public:
  DoneStatus done() {
    return [state = state_](absl::Status status) {
      state->set_value(std::move(status));
    };
  }
  absl::Status Wait() { return state_->get_future().get(); }

 private:
  std::shared_ptr<std::promise<absl::Status>> state_ =
      std::make_shared<std::promise<absl::Status>>();
};

// Bytes that depend on where they are and on `seed`.
at::Tensor Pattern(int64_t nbytes, uint8_t seed);
// A message with one tensor of Pattern(nbytes, seed), called "data".
TensorMessage PatternMessage(int64_t nbytes, uint8_t seed, int64_t id = 0);
bool SameBytes(const at::Tensor& a, const at::Tensor& b);

TransferRules BasicRules();

// Two linked endpoints in this process.
class LinkTest : public ::testing::Test {
 protected:
  void Connect(TransferRules rules, Clock* clock = Clock::Real());
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
