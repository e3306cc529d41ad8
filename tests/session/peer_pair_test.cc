#include "tests/testing/peer_pair.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "session/blocking.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;

TEST(PeerPairTest, WhatOneSendsTheOtherReceives) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto pair, testing::MakePeerPair());
  absl::Notification sent;
  pair.caller_session->Send({.payload = "x", .tensors = {at::ones({4})}}, {},
                            [&](absl::StatusOr<Receipt> receipt) {
                              EXPECT_THAT(receipt, IsOk());
                              sent.Notify();
                            });
  FERRY_ASSERT_OK_AND_ASSIGN(Received received,
                             blocking::Receive(*pair.callee_session));
  sent.WaitForNotification();
  EXPECT_EQ(received.message.payload, "x");
  EXPECT_TRUE(at::equal(received.message.tensors.at(0), at::ones({4})));
}

}  // namespace
}  // namespace tensorferry
