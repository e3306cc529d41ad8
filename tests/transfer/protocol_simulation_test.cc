#include "tests/transfer/protocol_simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace tensorferry {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// TENSORFERRY_SEED=n replays one run, TENSORFERRY_SEEDS=n makes that many.
TEST(ProtocolSimulationTest, InvariantsHoldForEverySeed) {
  uint64_t first = FromEnvironment("TENSORFERRY_SEED", 1);
  bool replay = std::getenv("TENSORFERRY_SEED") != nullptr;
  uint64_t seeds = replay ? 1 : FromEnvironment("TENSORFERRY_SEEDS", 25000);
  SimulationReport sum;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SimulationReport report = ProtocolSimulation::Run(seed);
    ASSERT_EQ(report.failure, "") << "replay with TENSORFERRY_SEED=" << seed;
    sum.sent_ok += report.sent_ok;
    sum.sent_failed += report.sent_failed;
    sum.received_ok += report.received_ok;
    sum.lanes_ended += report.lanes_ended;
    sum.aside += report.aside;
    sum.again += report.again;
    sum.dropped += report.dropped;
    sum.digests += report.digests;
  }
  RecordProperty("sent_ok", sum.sent_ok);
  if (replay) return;
  // The seeds reach what they are there for.
  EXPECT_GT(sum.sent_ok, 0);
  EXPECT_GT(sum.sent_failed, 0);
  EXPECT_GE(sum.received_ok, sum.sent_ok);
  EXPECT_GT(sum.lanes_ended, 0);
  EXPECT_GT(sum.aside, 0);
  EXPECT_GT(sum.again, 0);
  EXPECT_GT(sum.dropped, 0);
  EXPECT_GT(sum.digests, 0);
  std::printf(
      "sent %d ok, %d not; %d lanes ended; bodies: %d to their place, "
      "%d aside, %d dropped; %d digests before the end\n",
      sum.sent_ok, sum.sent_failed, sum.lanes_ended, sum.again, sum.aside,
      sum.dropped, sum.digests);
}

}  // namespace
}  // namespace tensorferry
