#include "transfer/reopening.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using OfferKind = LaneOffers::Action::Kind;
using DialKind = LaneDials::Action::Kind;

LaneOffers::Action Listen() { return {OfferKind::kListen, 0, 0}; }
LaneOffers::Action StopListening() { return {OfferKind::kStopListening, 0, 0}; }
LaneOffers::Action Offer(uint32_t lane, uint32_t generation) {
  return {OfferKind::kOffer, lane, generation};
}
LaneDials::Action End(uint32_t lane, uint32_t generation) {
  return {DialKind::kEnd, lane, generation, ""};
}
LaneDials::Action Dial(uint32_t lane, uint32_t generation,
                       std::string address) {
  return {DialKind::kDial, lane, generation, std::move(address)};
}

class LaneOffersTest : public ::testing::Test {
 protected:
  LaneOffersTest() {
    for (uint32_t lane = 0; lane < 3; ++lane) {
      EXPECT_THAT(offers_.Check(lane, 1), IsOk());
      offers_.OnTaken(lane, out_);
    }
    EXPECT_THAT(Taken(), ElementsAre(StopListening()));
  }
  LaneOffers::Actions Taken() { return std::exchange(out_, {}); }

  LaneOffers offers_{3};
  LaneOffers::Actions out_;
};

TEST_F(LaneOffersTest, LostLaneIsOfferedAtANewAddress) {
  offers_.OnEnded(1, out_);
  EXPECT_THAT(Taken(), ElementsAre(Listen(), Offer(1, 2)));
  EXPECT_FALSE(offers_.all_taken());
  offers_.OnTaken(1, out_);
  EXPECT_THAT(Taken(), ElementsAre(StopListening()));
  EXPECT_TRUE(offers_.all_taken());
}

TEST_F(LaneOffersTest, SecondLostLaneIsOfferedAlone) {
  offers_.OnEnded(1, out_);
  Taken();
  offers_.OnEnded(2, out_);
  EXPECT_THAT(Taken(), ElementsAre(Offer(2, 2)));
}

TEST_F(LaneOffersTest, NewAddressMakesNewOffersOfWhatIsDown) {
  offers_.OnEnded(1, out_);
  Taken();
  offers_.OnListenerLost(out_);
  EXPECT_THAT(Taken(), ElementsAre(Listen(), Offer(1, 3)));
  EXPECT_THAT(offers_.Check(1, 3), IsOk());
}

TEST_F(LaneOffersTest, ListenerThatIsNotNeededMayGo) {
  offers_.OnListenerLost(out_);
  EXPECT_THAT(Taken(), IsEmpty());
}

TEST_F(LaneOffersTest, OnlyTheLastOfferIsGoodAndOnlyOnce) {
  offers_.OnEnded(1, out_);
  offers_.OnListenerLost(out_);
  for (uint32_t generation : {0, 1, 2, 4}) {
    EXPECT_THAT(offers_.Check(1, generation),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         HasSubstr("is not expected")));
  }
  EXPECT_THAT(offers_.Check(1, 3), IsOk());
  offers_.OnTaken(1, out_);
  EXPECT_FALSE(offers_.Check(1, 3).ok());
  EXPECT_FALSE(offers_.Check(7, 1).ok());
}

class LaneDialsTest : public ::testing::Test {
 protected:
  LaneDials::Actions Taken() { return std::exchange(out_, {}); }

  LaneDials dials_{3};
  LaneDials::Actions out_;
};

TEST_F(LaneDialsTest, LaneThatHasEndedIsDialed) {
  dials_.OnEnded(1, out_);
  EXPECT_THAT(Taken(), IsEmpty());
  EXPECT_THAT(dials_.OnOffer(1, 2, "a", out_), IsOk());
  EXPECT_THAT(Taken(), ElementsAre(Dial(1, 2, "a")));
}

TEST_F(LaneDialsTest, LaneThatIsUpIsEndedAndThenDialed) {
  EXPECT_THAT(dials_.OnOffer(1, 2, "a", out_), IsOk());
  EXPECT_THAT(Taken(), ElementsAre(End(1, 1)));
  EXPECT_THAT(dials_.OnOffer(1, 5, "b", out_), IsOk());
  EXPECT_THAT(Taken(), ElementsAre(End(1, 1)));
  dials_.OnEnded(1, out_);
  EXPECT_THAT(Taken(), ElementsAre(Dial(1, 5, "b")));
}

TEST_F(LaneDialsTest, DialThatWasOvertakenIsDialedAnew) {
  dials_.OnEnded(1, out_);
  EXPECT_THAT(dials_.OnOffer(1, 2, "a", out_), IsOk());
  Taken();
  EXPECT_THAT(dials_.OnOffer(1, 3, "b", out_), IsOk());
  EXPECT_THAT(Taken(), ElementsAre(End(1, 2)));
  dials_.OnEnded(1, out_);
  EXPECT_THAT(Taken(), ElementsAre(Dial(1, 3, "b")));
}

TEST_F(LaneDialsTest, OfferThatIsKnownOrOldIsIgnored) {
  dials_.OnEnded(1, out_);
  EXPECT_THAT(dials_.OnOffer(1, 3, "a", out_), IsOk());
  Taken();
  for (uint32_t generation : {0, 1, 2, 3}) {
    EXPECT_THAT(dials_.OnOffer(1, generation, "b", out_), IsOk());
  }
  EXPECT_THAT(Taken(), IsEmpty());
  // Nor is it dialed once more when it fails.
  dials_.OnEnded(1, out_);
  EXPECT_THAT(Taken(), IsEmpty());
}

TEST_F(LaneDialsTest, Lane0AndLanesThatAreNoneAreLies) {
  for (uint32_t lane : {0, 3}) {
    EXPECT_THAT(dials_.OnOffer(lane, 2, "a", out_),
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
    LaneOffers::Actions ignored;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      offers_.OnTaken(lane, ignored);
      connections_.push_back({lane, 1, 0, {}, {}, true, true, true, true});
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
    ASSERT_TRUE(offers_.all_taken());
    std::vector<int> up(kLanes);
    for (const Connection& connection : connections_) {
      EXPECT_EQ(connection.taken, connection.answered);
      ++up[connection.lane];
    }
    EXPECT_THAT(up, ::testing::Each(1));
  }

 private:
  static constexpr uint32_t kLanes = 4;
  enum class Event { kHello, kReply, kClosed };

  struct Connection {
    uint32_t lane = 0, generation = 0;
    int listener = 0;
    std::deque<Event> to_accepter, to_dialer;
    bool at_accepter = true, at_dialer = true;  // not ended there
    bool taken = false, answered = false;
  };

  struct Offered {
    uint32_t lane, generation;
    int listener;
  };

  bool OneIn(int n) { return random_() % n == 0; }

  void Close(Connection& connection) {
    if (OneIn(2)) connection.to_accepter.clear();
    if (OneIn(2)) connection.to_dialer.clear();
    connection.to_accepter.push_back(Event::kClosed);
    connection.to_dialer.push_back(Event::kClosed);
  }

  // Either side ends a lane that it believes to be up, or the listener fails.
  void Disturb() {
    if (OneIn(4)) {
      LaneOffers::Actions actions;
      offers_.OnListenerLost(actions);
      return Do(actions);
    }
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
    LaneOffers::Actions actions;
    if (event == Event::kClosed) {
      connection.at_accepter = false;
      if (connection.taken) offers_.OnEnded(connection.lane, actions);
    } else if (connection.listener != listener_ ||
               !offers_.Check(connection.lane, connection.generation).ok()) {
      Close(connection);
    } else {
      connection.taken = true;
      connection.to_dialer.push_back(Event::kReply);
      offers_.OnTaken(connection.lane, actions);
    }
    Do(actions);
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
    LaneDials::Actions actions;
    dials_.OnEnded(connection.lane, actions);
    Do(actions);
  }

  void ToDialer(const Offered& offered) {
    LaneDials::Actions actions;
    EXPECT_THAT(dials_.OnOffer(offered.lane, offered.generation,
                               absl::StrCat(offered.listener), actions),
                IsOk());
    Do(actions);
  }

  void Do(const LaneOffers::Actions& actions) {
    for (const LaneOffers::Action& action : actions) {
      if (action.kind == OfferKind::kListen) {
        listener_ = ++listeners_;
      } else if (action.kind == OfferKind::kStopListening) {
        listener_ = -1;
      } else {
        ASSERT_GT(listener_, 0);
        lane0_.push_back({action.lane, action.generation, listener_});
      }
    }
  }

  void Do(const LaneDials::Actions& actions) {
    for (const LaneDials::Action& action : actions) {
      Connection* current = nullptr;
      for (Connection& connection : connections_) {
        if (connection.lane == action.lane && connection.at_dialer) {
          ASSERT_EQ(current, nullptr);
          current = &connection;
        }
      }
      if (action.kind == DialKind::kEnd) {
        ASSERT_NE(current, nullptr);
        Close(*current);
        continue;
      }
      ASSERT_EQ(current, nullptr);
      connections_.push_back({action.lane,
                              action.generation,
                              std::stoi(action.address),
                              {Event::kHello}});
    }
  }

  std::mt19937 random_;
  LaneOffers offers_{kLanes};
  LaneDials dials_{kLanes};
  std::list<Connection> connections_;
  std::deque<Offered> lane0_;
  int listener_ = -1, listeners_ = 0;
};

TEST(ReopeningTest, LanesComeUpAgainHoweverMessagesCross) {
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    Simulation(seed).Run();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tensorferry
