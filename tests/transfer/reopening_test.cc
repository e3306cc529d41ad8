#include "transfer/reopening.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <list>
#include <random>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

using Next = LaneDials::Next;

class LaneOffersTest : public ::testing::Test {
 protected:
  LaneOffersTest() {
    for (uint32_t lane = 0; lane < 3; ++lane) {
      EXPECT_THAT(offers_.Check(lane, 1), IsOk());
      offers_.OnTaken(lane);
    }
  }

  LaneOffers offers_{3};
};

TEST_F(LaneOffersTest, LostLaneIsOfferedWithTheNextGeneration) {
  EXPECT_EQ(offers_.OnEnded(1), 2u);
  EXPECT_THAT(offers_.Check(1, 2), IsOk());
  offers_.OnTaken(1);
  EXPECT_EQ(offers_.OnEnded(1), 3u);
}

TEST_F(LaneOffersTest, OnlyTheLastOfferIsGoodAndOnlyOnce) {
  offers_.OnEnded(1);
  offers_.OnTaken(1);
  offers_.OnEnded(1);
  for (uint32_t generation : {0, 1, 2, 4}) {
    EXPECT_THAT(offers_.Check(1, generation),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         HasSubstr("is not expected")));
  }
  EXPECT_THAT(offers_.Check(1, 3), IsOk());
  offers_.OnTaken(1);
  EXPECT_FALSE(offers_.Check(1, 3).ok());
  EXPECT_FALSE(offers_.Check(7, 1).ok());
}

class LaneDialsTest : public ::testing::Test {
 protected:
  Next Offered(uint32_t generation) {
    absl::StatusOr<Next> next = dials_.OnOffer(1, generation);
    EXPECT_THAT(next, IsOk());
    return *next;
  }

  LaneDials dials_{3};
};

TEST_F(LaneDialsTest, LaneThatHasEndedIsDialed) {
  EXPECT_EQ(dials_.OnEnded(1), Next::kNothing);
  EXPECT_EQ(Offered(2), Next::kDial);
  EXPECT_EQ(dials_.dialed(1), 2u);
}

TEST_F(LaneDialsTest, LaneThatIsUpIsEndedAndThenDialed) {
  EXPECT_EQ(Offered(2), Next::kEnd);
  EXPECT_EQ(Offered(5), Next::kEnd);
  EXPECT_EQ(dials_.OnEnded(1), Next::kDial);
  EXPECT_EQ(dials_.dialed(1), 5u);
}

TEST_F(LaneDialsTest, DialThatWasOvertakenIsDialedAnew) {
  dials_.OnEnded(1);
  Offered(2);
  EXPECT_EQ(Offered(3), Next::kEnd);
  EXPECT_EQ(dials_.OnEnded(1), Next::kDial);
  EXPECT_EQ(dials_.dialed(1), 3u);
}

TEST_F(LaneDialsTest, OfferThatIsKnownOrOldIsIgnored) {
  dials_.OnEnded(1);
  Offered(3);
  for (uint32_t generation : {0, 1, 2, 3}) {
    EXPECT_EQ(Offered(generation), Next::kNothing);
  }
  // Nor is it dialed once more when it fails.
  EXPECT_EQ(dials_.OnEnded(1), Next::kNothing);
}

TEST_F(LaneDialsTest, Lane0AndLanesThatAreNoneAreLies) {
  for (uint32_t lane : {0, 3}) {
    EXPECT_THAT(dials_.OnOffer(lane, 2),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("REOPEN of lane")));
  }
}

// Both sides and the connections between them. Messages on lane 0 keep their
// order; everything else comes when it likes, and what is under way when a
// connection closes may be lost.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      offers_.OnTaken(lane);
      connections_.push_back({lane, 1, {}, {}, true, true, true, true});
    }
  }

  void Run() {
    for (int i = 0; i < 200; ++i) {
      if (OneIn(4)) {
        Disturb();
      } else {
        Deliver();
      }
    }
    for (int i = 0; Deliver(); ++i) {
      ASSERT_LT(i, 10000) << "it never ends";
    }
    std::vector<int> up(kLanes);
    for (const Connection& connection : connections_) {
      EXPECT_TRUE(connection.taken && connection.answered);
      ++up[connection.lane];
    }
    EXPECT_THAT(up, ::testing::Each(1));
  }

 private:
  static constexpr uint32_t kLanes = 4;
  enum class Event { kHello, kReply, kClosed };

  struct Connection {
    uint32_t lane = 0, generation = 0;
    std::deque<Event> to_accepter, to_dialer;
    bool at_accepter = true, at_dialer = true;  // not ended there
    bool taken = false, answered = false;
  };

  struct Offered {
    uint32_t lane, generation;
  };

  bool OneIn(int n) { return random_() % n == 0; }

  void Close(Connection& connection) {
    if (OneIn(2)) connection.to_accepter.clear();
    if (OneIn(2)) connection.to_dialer.clear();
    connection.to_accepter.push_back(Event::kClosed);
    connection.to_dialer.push_back(Event::kClosed);
  }

  // Either side ends a lane that it believes to be up.
  void Disturb() {
    for (Connection& connection : connections_) {
      const bool up = (connection.taken && connection.at_accepter) ||
                      (connection.answered && connection.at_dialer);
      if (connection.lane != 0 && up && OneIn(3)) return Close(connection);
    }
  }

  // Whether there was something.
  bool Deliver() {
    std::vector<Connection*> accepting, dialing;
    for (Connection& connection : connections_) {
      if (!connection.to_accepter.empty()) accepting.push_back(&connection);
      if (!connection.to_dialer.empty()) dialing.push_back(&connection);
    }
    const size_t all =
        accepting.size() + dialing.size() + (lane0_.empty() ? 0 : 1);
    if (all == 0) return false;
    size_t which = random_() % all;
    if (which < accepting.size()) {
      ToAccepter(*accepting[which]);
    } else if (which - accepting.size() < dialing.size()) {
      ToDialer(*dialing[which - accepting.size()]);
    } else {
      ToDialer(lane0_.front());
      lane0_.pop_front();
    }
    connections_.remove_if([](const Connection& connection) {
      return !connection.at_accepter && !connection.at_dialer;
    });
    return true;
  }

  void ToAccepter(Connection& connection) {
    const Event event = connection.to_accepter.front();
    connection.to_accepter.pop_front();
    if (!connection.at_accepter) return;
    if (event == Event::kClosed) {
      connection.at_accepter = false;
      if (!connection.taken) return;
      lane0_.push_back({connection.lane, offers_.OnEnded(connection.lane)});
    } else if (!offers_.Check(connection.lane, connection.generation).ok()) {
      Close(connection);
    } else {
      connection.taken = true;
      connection.to_dialer.push_back(Event::kReply);
      offers_.OnTaken(connection.lane);
    }
  }

  void ToDialer(Connection& connection) {
    const Event event = connection.to_dialer.front();
    connection.to_dialer.pop_front();
    if (!connection.at_dialer) return;
    if (event == Event::kReply) {
      connection.answered = true;
      return;
    }
    connection.at_dialer = false;
    Do(connection.lane, dials_.OnEnded(connection.lane));
  }

  void ToDialer(const Offered& offered) {
    absl::StatusOr<Next> next =
        dials_.OnOffer(offered.lane, offered.generation);
    ASSERT_THAT(next, IsOk());
    Do(offered.lane, *next);
  }

  void Do(uint32_t lane, Next next) {
    Connection* current = nullptr;
    for (Connection& connection : connections_) {
      if (connection.lane == lane && connection.at_dialer) {
        ASSERT_EQ(current, nullptr);
        current = &connection;
      }
    }
    if (next == Next::kEnd) {
      ASSERT_NE(current, nullptr);
      Close(*current);
    } else if (next == Next::kDial) {
      ASSERT_EQ(current, nullptr);
      connections_.push_back({lane, dials_.dialed(lane), {Event::kHello}});
    }
  }

  std::mt19937 random_;
  LaneOffers offers_{kLanes};
  LaneDials dials_{kLanes};
  std::list<Connection> connections_;
  std::deque<Offered> lane0_;
};

TEST(ReopeningTest, LanesComeUpAgainHoweverMessagesCross) {
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    Simulation(seed).Run();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tensorferry
