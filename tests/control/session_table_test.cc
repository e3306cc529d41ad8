#include "control/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/control/test_values.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kLease = absl::Seconds(15);

class SessionTableTest : public ::testing::Test {
 protected:
  FakeClock clock_{absl::FromUnixSeconds(1000)};
  SessionTable table_{&clock_, kLease, 3};
};

TEST_F(SessionTableTest, AddsWithALeaseAndAnIdOf128RandomBits) {
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    auto id = table_.Add(GoldenPlan(), {}, 4096);
    ASSERT_THAT(id, IsOk());
    EXPECT_EQ(id->size(), 32u);
    EXPECT_EQ(id->find_first_not_of("0123456789abcdef"), std::string::npos);
    EXPECT_TRUE(ids.insert(*id).second);
  }
  for (const SessionRecord& record : table_.List()) {
    EXPECT_EQ(record.state, SessionState::kOpening);
    EXPECT_EQ(record.opened_at, clock_.Now());
    EXPECT_EQ(record.lease_until, clock_.Now() + kLease);
    EXPECT_EQ(Digest(record.plan), Digest(GoldenPlan()));
  }
}

TEST_F(SessionTableTest, OneIdentityHasNoMoreThanItsOwnMost) {
  EXPECT_THAT(table_.Add(GoldenPlan(), {{"token:ci"}}, 1), IsOk());
  EXPECT_THAT(table_.Add(GoldenPlan(), {{"token:ci"}}, 1),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("token:ci has 1 sessions")));
  EXPECT_THAT(table_.Add(GoldenPlan(), {{"token:lab"}}, 1), IsOk());
}

TEST_F(SessionTableTest, OneWithTwoTokensHasTheSessionsOfOne) {
  auto id = table_.Add(GoldenPlan(), {{"token:a", "cert:x"}}, 1);
  EXPECT_THAT(id, IsOk());
  EXPECT_THAT(table_.Add(GoldenPlan(), {{"token:b", "cert:x"}}, 1),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("cert:x has 1 sessions")));
  EXPECT_THAT(table_.Remove(*id), IsOk());
  EXPECT_THAT(table_.Add(GoldenPlan(), {{"token:b", "cert:x"}}, 1), IsOk());
}

TEST_F(SessionTableTest, RefusesMoreThanItsMost) {
  std::string id;
  for (int i = 0; i < 3; ++i) id = *table_.Add(GoldenPlan(), {}, 4096);
  EXPECT_THAT(table_.Add(GoldenPlan(), {}, 4096),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("callee \"bob\" has 3 sessions")));
  EXPECT_THAT(table_.Remove(id), IsOk());
  EXPECT_THAT(table_.Add(GoldenPlan(), {}, 4096), IsOk());
}

TEST_F(SessionTableTest, OpensOnlyWhatIsOpening) {
  std::string id = *table_.Add(GoldenPlan(), {}, 4096);
  EXPECT_THAT(table_.MarkOpen(id), IsOk());
  EXPECT_EQ(table_.List()[0].state, SessionState::kOpen);
  EXPECT_THAT(table_.MarkOpen(id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(id)));
}

TEST_F(SessionTableTest, DrainsFromEveryState) {
  for (bool open : {false, true}) {
    std::string id = *table_.Add(GoldenPlan(), {}, 4096);
    if (open) {
      EXPECT_THAT(table_.MarkOpen(id), IsOk());
    }
    EXPECT_THAT(table_.MarkDraining(id), IsOk());
    EXPECT_THAT(table_.MarkDraining(id), IsOk());
    EXPECT_EQ(table_.List()[0].state, SessionState::kDraining);
    EXPECT_THAT(table_.MarkOpen(id),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(table_.Remove(id), IsOk());
  }
}

TEST_F(SessionTableTest, KnowsOnlyItsOwnSessions) {
  std::string id = *table_.Add(GoldenPlan(), {}, 4096);
  EXPECT_THAT(table_.Remove(id), IsOk());
  for (const std::string& unknown :
       {id, std::string("\n\xff"), std::string()}) {
    EXPECT_THAT(table_.MarkOpen(unknown),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(table_.MarkDraining(unknown),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(table_.Renew(unknown), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(table_.Remove(unknown), StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST_F(SessionTableTest, LeasePassesUnlessRenewed) {
  std::string silent = *table_.Add(GoldenPlan(), {}, 4096);
  std::string alive = *table_.Add(GoldenPlan(), {}, 4096);
  clock_.Advance(kLease - absl::Nanoseconds(1));
  EXPECT_THAT(table_.TakeExpired(), IsEmpty());
  EXPECT_THAT(table_.Renew(alive), IsOk());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(table_.TakeExpired(),
              ElementsAre(Field(&SessionRecord::id, silent)));
  EXPECT_THAT(table_.TakeExpired(), IsEmpty());
  EXPECT_THAT(table_.List(), ElementsAre(Field(&SessionRecord::id, alive)));
  EXPECT_EQ(table_.List()[0].lease_until,
            clock_.Now() + kLease - absl::Nanoseconds(1));
}

TEST_F(SessionTableTest, IsThreadSafe) {
  SessionTable table(&clock_, kLease, 1000);
  std::atomic<int> expired{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        std::string id = *table.Add(GoldenPlan(), {}, 4096);
        table.Renew(id).IgnoreError();
        table.MarkOpen(id).IgnoreError();
        if (t == 0) clock_.Advance(absl::Seconds(1));
        expired += static_cast<int>(table.TakeExpired().size());
        table.List();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table.List().size() + expired, 400u);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
