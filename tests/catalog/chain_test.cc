#include "catalog/chain.h"

#include <gtest/gtest.h>

#include <string>

namespace tensorferry {
namespace {

// An operation that writes its name down when it is cancelled.
Operation Named(const std::string& name, std::string& cancelled) {
  return Operation([name, &cancelled] { cancelled += name; });
}

TEST(ChainTest, CancelsWhatIsUnderWay) {
  std::string cancelled;
  Chain chain;
  chain.Run([&] { return Named("a", cancelled); });
  chain.Run([&] { return Named("b", cancelled); });
  chain.Cancel();
  EXPECT_EQ(cancelled, "b");
}

TEST(ChainTest, AStepThatEndedBeforeItsCallReturnedIsNotTheCurrentOne) {
  std::string cancelled;
  Chain chain;
  chain.Run([&] {
    chain.Run([&] { return Named("b", cancelled); });
    return Named("a", cancelled);
  });
  chain.Cancel();
  EXPECT_EQ(cancelled, "b");
}

TEST(ChainTest, CancelsStepsThatComeAfterIt) {
  std::string cancelled;
  Chain chain;
  chain.Cancel();
  chain.Run([&] { return Named("a", cancelled); });
  EXPECT_EQ(cancelled, "a");
}

}  // namespace
}  // namespace tensorferry
