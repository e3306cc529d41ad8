// There is no memory for what a session needs once it is on its way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "control/access.h"
#include "control/authorizer.h"
#include "control/control_client.h"
#include "control/security.h"
#include "tests/control/test_peers.h"
#include "tests/testing/status_matchers.h"

namespace {

// Of this thread: the next allocation of so many bytes or more fails.
thread_local size_t too_large = SIZE_MAX;

}  // namespace

// The program's own, for all of its libraries.
void* operator new(size_t size) {
  const bool refused = size >= too_large;
  if (refused) too_large = SIZE_MAX;
  void* memory = refused ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tensorferry {
namespace testing {
namespace {

using ::testing::IsEmpty;

constexpr absl::Duration kTimeout = absl::Seconds(30);

absl::Status Open(const std::string& address) {
  auto client = ControlClient::Create(address);
  if (!client.ok()) return client.status();
  return Await<ControlClient::Accepted>(
             [&](Done<ControlClient::Accepted> done) {
               (*client)->OpenSession(Offer(), PeerWith("alice", {}),
                                      std::make_shared<HeardEvents>(), kTimeout,
                                      std::move(done));
             })
      .status();
}

// What is made of a stream next is its side, which is larger than that.
class LetsInAndLeavesLittleMemory : public Authorizer {
 public:
  Grants GrantsOf(const Identity&) const override {
    too_large = 512;
    return Grants::All();
  }
};

TEST(ControlOutOfMemoryTest, AStreamWithoutASideIsRefusedAndNotAwaited) {
  FakeHost host(PeerWith("bob", {}));
  ServerSecurity security;
  security.authorizer = std::make_shared<const LetsInAndLeavesLittleMemory>();
  auto access = Access::Create(security);
  ASSERT_THAT(access, IsOk());
  TestServer server(&host, {.access = *std::move(access)});
  EXPECT_THAT(Open(server.address()),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

// Admits, and there is no memory to tell the caller where.
class AdmitsToALongAddress : public FakeHost {
 public:
  using FakeHost::FakeHost;
  absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) override {
    auto admitted =
        FakeHost::Admit(session_id, plan, caller, std::move(stream));
    constexpr size_t kLong = 10'000;
    admitted->ticket.data_addresses.push_back(std::string(kLong, 'x'));
    id = session_id;
    too_large = kLong;
    return admitted;
  }
  std::string id;
};

TEST(ControlOutOfMemoryTest, ASessionThatCannotBeAnsweredEndsAtItsHost) {
  AdmitsToALongAddress host(PeerWith("bob", {}));
  TestServer server(&host);
  EXPECT_THAT(Open(server.address()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(host.Of(host.id).events->AwaitEnd(),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(server.control().sessions().List(), IsEmpty());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
