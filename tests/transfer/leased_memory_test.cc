#include "transfer/leased_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

constexpr size_t kBytes = 1 << 20;

TEST(LeasedMemoryTest, IsForLeasesOnlyAsLongAsItsMessageIsReceived) {
  const auto space = LeaseSpace::Create();
  bool returned = false;
  std::optional<LeasedMemory> message(std::in_place, space,
                                      [&returned] { returned = true; });
  FERRY_ASSERT_OK_AND_ASSIGN(c10::DataPtr taken, message->Take(kBytes, 1));
  EXPECT_TRUE(space->Has(taken.get(), kBytes));
  message.reset();
  EXPECT_FALSE(space->Has(taken.get(), kBytes));
  std::memset(taken.get(), 7, kBytes);
  EXPECT_FALSE(returned);
  taken.clear();
  EXPECT_TRUE(returned);
}

}  // namespace
}  // namespace tensorferry
