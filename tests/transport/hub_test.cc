// Sessions over a hub with the real tensorpipe on both ends.
#include "transport/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/transport/pipe_fixture.h"

namespace tensorferry {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class HubTest : public ::testing::TestWithParam<Wire> {
 protected:
  HubTest() {
    auto hub = Hub::Create({.loop = loop_.get()});
    EXPECT_TRUE(hub.ok()) << hub.status();
    hub_ = *std::move(hub);
  }

  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  std::unique_ptr<Hub> hub_;
};

INSTANTIATE_TEST_SUITE_P(Wires, HubTest,
                         ::testing::Values(Wire::kUnix, Wire::kTcp, Wire::kTls),
                         [](const auto& info) {
                           return std::string(ToString(info.param));
                         });

TEST_P(HubTest, CarriesMessagesOfAllSizesBothWays) {
  auto session = Session::Open(*hub_, *hub_, {GetParam()});
  ASSERT_TRUE(session.ok()) << session.status();
  auto ends = session->OpenPipe();
  ASSERT_TRUE(ends.ok()) << ends.status();
  for (size_t size : {0, 1, 7, 1000, 65535, 65536, 70000, 5 << 20}) {
    SCOPED_TRACE(size);
    Letter letter{.metadata = std::string(size % 1000, 'm'),
                  .payloads = {std::string(size, 'p'), "", "x"},
                  .tensors = {std::string(size, 't'), std::string(size, 'u')}};
    auto there = Carry(*ends->dialed, *ends->accepted, letter);
    ASSERT_TRUE(there.ok()) << there.status();
    EXPECT_TRUE(*there == letter);
    auto back = Carry(*ends->accepted, *ends->dialed, letter);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == letter);
  }
}

TEST_P(HubTest, KeepsSessionsApart) {
  std::vector<Session> sessions;
  for (int i = 0; i < 8; ++i) {
    auto session = Session::Open(*hub_, *hub_, {GetParam()});
    ASSERT_TRUE(session.ok()) << session.status();
    sessions.push_back(*std::move(session));
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < sessions.size(); ++i) {
      auto ends = sessions[i].OpenPipe();
      ASSERT_TRUE(ends.ok()) << ends.status();
      const Letter letter{.metadata = std::to_string(i)};
      auto got = Carry(*ends->dialed, *ends->accepted, letter);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->metadata, letter.metadata);
    }
  }
}

TEST_P(HubTest, ASessionThatIsNotExpectedIsUnauthenticated) {
  auto session = Session::Open(*hub_, *hub_, {GetParam()});
  ASSERT_TRUE(session.ok()) << session.status();
  auto context = hub_->Dial(RandomSession(), session->address(), {});
  ASSERT_TRUE(context.ok()) << context.status();
  Side intruder(*context);
  auto pipe = intruder.context().connect("ferry://" + session->address());
  EXPECT_THAT(Receive(*pipe), StatusIs(absl::StatusCode::kUnauthenticated));
  auto ends = session->OpenPipe();
  EXPECT_TRUE(ends.ok()) << ends.status();
}

TEST_P(HubTest, AWrongKeyIsUnauthenticated) {
  SessionKey key = RandomSession();
  auto session = Session::Open(*hub_, *hub_, {GetParam()}, key);
  ASSERT_TRUE(session.ok()) << session.status();
  key.key[3] ^= 1;
  auto context = hub_->Dial(key, session->address(), {});
  ASSERT_TRUE(context.ok()) << context.status();
  Side intruder(*context);
  auto pipe = intruder.context().connect("ferry://" + session->address());
  EXPECT_THAT(Receive(*pipe), StatusIs(absl::StatusCode::kUnauthenticated));
  auto ends = session->OpenPipe();
  EXPECT_TRUE(ends.ok()) << ends.status();
}

}  // namespace
}  // namespace tensorferry
