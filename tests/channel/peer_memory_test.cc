#include "channel/peer_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using absl::StatusCode;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

class PeerMemoryTest : public ::testing::Test {
 protected:
  PeerMemory Prove() {
    return *PeerMemory::Prove({getpid(), geteuid()}, nonce_.address(),
                              nonce_.value());
  }

  PlacedNonce nonce_;
};

TEST_F(PeerMemoryTest, NoncesDiffer) {
  PlacedNonce other;
  EXPECT_NE(nonce_.value(), other.value());
  EXPECT_NE(nonce_.value(), MemoryNonce{});
}

TEST_F(PeerMemoryTest, IsReadOnceProved) {
  std::string from = "what lies there", to(from.size(), '\0');
  EXPECT_THAT(Prove().Read(reinterpret_cast<uint64_t>(from.data()), to.data(),
                           to.size()),
              IsOk());
  EXPECT_EQ(to, from);
}

TEST_F(PeerMemoryTest, WrongNonceIsNotProved) {
  MemoryNonce forged = nonce_.value();
  forged[15] ^= 1;
  const PeerProcess self{getpid(), geteuid()};
  for (uint64_t address :
       {nonce_.address(), nonce_.address() + 8, uint64_t{1}, UINT64_MAX - 16}) {
    EXPECT_THAT(
        PeerMemory::Prove(self, address, forged),
        StatusIs(StatusCode::kFailedPrecondition, HasSubstr("not proved")));
  }
}

TEST_F(PeerMemoryTest, ProcessThatIsGoneIsNotProved) {
  EXPECT_THAT(
      PeerMemory::Prove({4'000'000, geteuid()}, nonce_.address(),
                        nonce_.value()),
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("No such process")));
}

TEST_F(PeerMemoryTest, NothingIsReadSuccessfullyAfterTheNonceIsErased) {
  const PeerMemory memory = Prove();
  nonce_.Erase();
  char from = 1, to = 0;
  EXPECT_THAT(memory.Read(reinterpret_cast<uint64_t>(&from), &to, 1),
              StatusIs(StatusCode::kUnavailable, HasSubstr("closed")));
}

TEST_F(PeerMemoryTest, MemoryThatIsNotThereIsNotFound) {
  const PeerMemory memory = Prove();
  const size_t page = sysconf(_SC_PAGESIZE);
  char* pages = static_cast<char*>(
      mmap(nullptr, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(munmap(pages + page, page), 0);
  std::string to(2 * page, '\0');
  for (uint64_t from :
       {uint64_t{1}, uint64_t{1} << 63, reinterpret_cast<uint64_t>(pages)}) {
    EXPECT_THAT(memory.Read(from, to.data(), to.size()),
                StatusIs(StatusCode::kNotFound));
  }
  nonce_.Erase();  // then it may have been there
  EXPECT_THAT(memory.Read(1, to.data(), 1), StatusIs(StatusCode::kUnavailable));
  munmap(pages, page);
}

}  // namespace
}  // namespace tensorferry
