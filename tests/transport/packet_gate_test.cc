#include "transport/packet_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/transport/raw_peer.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

std::string Replaced(std::string text, const std::string& from,
                     const std::string& to) {
  const size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

PacketGate Dialing() {
  PacketGate gate(/*accepted=*/false, "ferry", "tensorferry/1");
  EXPECT_THAT(gate.OnWrite(SpontaneousHello()), IsOk());
  EXPECT_THAT(gate.OnWrite(GoodBrochure()), IsOk());
  return gate;
}

PacketGate Accepting() {
  PacketGate gate(/*accepted=*/true, "ferry", "tensorferry/1");
  EXPECT_THAT(gate.OnRead(SpontaneousHello()), IsOk());
  return gate;
}

TEST(PacketGateTest, LetsAnHonestPipeOpen) {
  PacketGate dialing = Dialing();
  EXPECT_THAT(dialing.OnRead(GoodAnswer()), IsOk());
  EXPECT_THAT(dialing.OnRead(GoodDescriptor(8)), IsOk());
  PacketGate accepting = Accepting();
  EXPECT_THAT(accepting.OnRead(GoodBrochure()), IsOk());
  EXPECT_THAT(accepting.OnWrite(GoodAnswer()), IsOk());
  EXPECT_THAT(accepting.OnRead(GoodDescriptor(8)), IsOk());
}

TEST(PacketGateTest, RefusesAnAnswerThatLies) {
  const std::string good = GoodAnswer();
  const struct {
    std::string answer, why;
  } lies[] = {
      {Replaced(good, "ferry", "fairy"), "transport"},
      {Replaced(good, "tensorferry/1", "tensorferry/2"), "domain"},
      {Replaced(good, std::string("\xbb\x01\x01\x05", 4), "\xbb\x01\x02\x05"),
       "misses an id"},
      {Replaced(good, "\xbb\x01\x01\x05", std::string("\xbb\x00", 2)),
       "misses an id"},
      {Replaced(good, std::string("\xbc\x08\x06\0\0\0\0\0\0\0", 10),
                std::string("\xbc\x00", 2)),
       "number of ids"},
      {Replaced(Replaced(Replaced(good, "basic", "bosic"), "basic", "bosic"),
                "basic", "bosic"),
       "unknown channel"},
      {Replaced(good,
                std::string("\0\xbd\x05"
                            "basic",
                            8),
                std::string("\1\xbd\x05"
                            "basic",
                            8)),
       "pair of devices"},
      {good.substr(0, good.size() - 1), "malformed"},
      {good + "x", "malformed"},
      {std::string("\xb9\x07", 2), "malformed"},
  };
  for (const auto& lie : lies) {
    EXPECT_THAT(Dialing().OnRead(lie.answer),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(lie.why)));
  }
}

TEST(PacketGateTest, RefusesABrochureWithoutOurTransport) {
  EXPECT_THAT(Accepting().OnRead(Replaced(GoodBrochure(), "ferry", "fairy")),
              StatusIs(absl::StatusCode::kDataLoss));
}

// tensorpipe parses these descriptors without a look at their end.
TEST(PacketGateTest, RefusesCudaDescriptorsThatAreCut) {
  const std::string cuda = std::string("\xbd\x0a") + "cuda_basic";
  const std::string brochure =
      Replaced(GoodBrochure(), std::string("\xbd\x05") + "basic", cuda);
  EXPECT_THAT(Accepting().OnRead(brochure),
              StatusIs(absl::StatusCode::kDataLoss));
}

// Those of cuda_xth are plain text.
TEST(PacketGateTest, LetsDescriptorsThatAreOnlyComparedBe) {
  const std::string brochure =
      Replaced(GoodBrochure(), std::string("\xbd\x05") + "basic",
               std::string("\xbd\x08") + "cuda_xth");
  EXPECT_THAT(Accepting().OnRead(brochure), IsOk());
}

TEST(PacketGateTest, SendsNoAnswerThatLeavesNoChannel) {
  PacketGate gate = Accepting();
  EXPECT_THAT(gate.OnRead(GoodBrochure()), IsOk());
  const std::string tail("\xbb\x01\xba\x02", 4);
  std::string answer = GoodAnswer();
  answer = answer.substr(0, answer.find(tail)) + std::string("\xbb\x00", 2);
  EXPECT_THAT(gate.OnWrite(answer),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(PacketGateTest, OtherPacketsHaveToBeWhole) {
  PacketGate gate(/*accepted=*/true, "ferry", "tensorferry/1");
  EXPECT_THAT(gate.OnRead(RequestedHello(3)), IsOk());
  EXPECT_THAT(gate.OnRead(GoodDescriptor(9)), IsOk());
  const std::string packet = GoodAnswer();
  for (size_t cut = 0; cut < packet.size(); ++cut) {
    EXPECT_THAT(gate.OnRead(packet.substr(0, cut)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

}  // namespace
}  // namespace tensorferry
