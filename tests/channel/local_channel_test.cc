#include "channel/local_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/channel/channel_fixture.h"
#include "tests/testing/copy_gate.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr size_t kMiB = 1 << 20;

LocalChannelOptions Proved() {
  LocalChannelOptions options;
  options.peer_of = ThisProcess;
  return options;
}

// Two channels that talk to each other.
class Pair {
 public:
  explicit Pair(LocalChannelOptions near = Proved(),
                LocalChannelOptions far = Proved())
      : near_side(std::move(near)), far_side(std::move(far)) {
    this->near = near_side.Open(wire.dialed);
    this->far = far_side.Open(wire.accepted);
  }
  ~Pair() {
    near->close();
    far->close();
  }

  // From near to far.
  void Transfer(const std::string& bytes, int line) {
    SCOPED_TRACE(line);
    std::string into(bytes.size(), '\0');
    Outcome sent, received;
    Send(*near, bytes, sent);
    Receive(*far, into, received);
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_THAT(sent.Wait(), IsOk());
    EXPECT_TRUE(into == bytes);
  }

  UvConnections wire;
  Side near_side, far_side;
  std::shared_ptr<tensorpipe::channel::Channel> near, far;
};

void ExpectCarried(const std::vector<Carried>& carried, size_t count,
                   const std::string& strategy, const std::string& reason) {
  testing::ExpectCarried(carried, count, strategy, &Carried::not_vm, reason);
}

TEST(LocalChannelTest, CarriesBuffersOfAnySizeByReadingMemory) {
  Pair pair;
  for (size_t size : {size_t{0}, size_t{1}, size_t{4096}, kMiB, 80 * kMiB}) {
    pair.Transfer(Pattern(size, 1), __LINE__);
  }
  ExpectCarried(pair.near_side.carried(), 4, "vm", "");
  ExpectCarried(pair.far_side.carried(), 4, "vm", "");
}

TEST(LocalChannelTest, CarriesThemThroughTheStreamIfThePeerIsUnknown) {
  Pair pair(Proved(), {});
  for (size_t size : {size_t{0}, size_t{1}, size_t{4096}, kMiB, 80 * kMiB}) {
    pair.Transfer(Pattern(size, 1), __LINE__);
  }
  const std::string why = "does not tell which process";
  ExpectCarried(pair.near_side.carried(), 4, "stream", why);
  ExpectCarried(pair.far_side.carried(), 4, "stream", why);
}

TEST(LocalChannelTest, SaysWhichBufferItCarried) {
  Pair pair;
  const std::string bytes = Pattern(100, 1);
  std::string into(100, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, into, received);
  ASSERT_THAT(sent.Wait(), IsOk());
  ASSERT_THAT(received.Wait(), IsOk());
  const std::vector<Carried> from = pair.near_side.carried(),
                             to = pair.far_side.carried();
  ASSERT_THAT(from, SizeIs(1));
  ASSERT_THAT(to, SizeIs(1));
  EXPECT_EQ(from[0].buffer, bytes.data());
  EXPECT_EQ(to[0].buffer, into.data());
  EXPECT_EQ(to[0].length, 100u);
}

TEST(LocalChannelTest, CarriesManyBothWaysInOrder) {
  // One direction reads memory, the other streams.
  Pair pair(Proved(), {});
  constexpr int kCount = 200;
  std::vector<std::string> out, back, in(kCount), home(kCount);
  for (int i = 0; i < kCount; ++i) {
    const size_t size = i % 7 == 0 ? 0 : (i % 5) * 300'000 + i;
    out.push_back(Pattern(size, i));
    back.push_back(Pattern(size / 2, i + 1000));
    in[i].resize(out[i].size());
    home[i].resize(back[i].size());
  }
  std::vector<Outcome> outcomes(4 * kCount);
  std::vector<int> order;  // written on the near side's loop only
  for (int i = 0; i < kCount; ++i) {
    Send(*pair.near, out[i], outcomes[i]);
    Send(*pair.far, back[i], outcomes[kCount + i]);
    Receive(*pair.far, in[i], outcomes[2 * kCount + i]);
    pair.near->recv(tensorpipe::CpuBuffer{home[i].data()}, home[i].size(),
                    [&order, i, done = outcomes[3 * kCount + i].done()](
                        const tensorpipe::Error& error) {
                      order.push_back(i);
                      done(error);
                    });
  }
  for (Outcome& outcome : outcomes) ASSERT_THAT(outcome.Wait(), IsOk());
  EXPECT_EQ(in, out);
  EXPECT_EQ(home, back);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(LocalChannelTest, PeerOfAnotherUserIsNotRead) {
  LocalChannelOptions options;
  options.peer_of = [](const Connection&) {
    return PeerProcess{getpid(), geteuid() + 1};
  };
  Pair pair(Proved(), options);
  pair.Transfer(Pattern(5000, 1), __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "stream", "the peer is of user");
}

TEST(LocalChannelTest, PeerOfAnotherPidNamespaceIsNotRead) {
  LocalChannelOptions options;
  options.peer_of = [](const Connection&) { return PeerProcess{0, geteuid()}; };
  Pair pair(Proved(), options);
  pair.Transfer(Pattern(5000, 1), __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "stream", "pid namespace");
}

TEST(LocalChannelTest, AnotherProcessThanThePeerIsNotRead) {
  LocalChannelOptions options;
  options.peer_of = [](const Connection&) {
    return PeerProcess{getppid(), geteuid()};
  };
  Pair pair(Proved(), options);
  pair.Transfer(Pattern(5000, 1), __LINE__);
  ExpectCarried(pair.far_side.carried(), 1, "stream", "not proved");
}

TEST(LocalChannelTest, CloseEndsPendingOperationsOnBothSides) {
  Pair pair;
  std::string bytes = Pattern(100, 1), into(100, 'x');
  Outcome sent, received, far_received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.near, into, received);
  Receive(*pair.far, into, far_received);
  Outcome more;
  Receive(*pair.far, into, more);
  EXPECT_THAT(far_received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  pair.near->close();
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_THAT(more.Wait(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("EOF")));
  Outcome late;
  Send(*pair.near, bytes, late);
  EXPECT_THAT(late.Wait(), StatusIs(StatusCode::kCancelled));
}

TEST(LocalChannelTest, CloseGivesUpACopyThatHasNotBegun) {
  HeldExecutor copier;
  LocalChannelOptions options = Proved();
  options.copier = &copier;
  options.piece_bytes = 1000;
  Pair pair(Proved(), options);
  const std::string bytes = Pattern(3000, 1);
  std::string into(3000, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, into, received);
  ASSERT_TRUE(copier.RunOne());  // the proof
  ASSERT_TRUE(copier.RunOne());  // the first piece
  EXPECT_EQ(into.substr(0, 1000), bytes.substr(0, 1000));
  // The second piece is in line while the channel is closed.
  ASSERT_TRUE(copier.AwaitOne());
  pair.far->close();
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kCancelled));
  copier.RunAll();
  EXPECT_EQ(into.substr(1000), std::string(2000, '\0'));
  EXPECT_FALSE(sent.Wait().ok());
}

TEST(LocalChannelTest, CloseIsNotOverBeforeTheCopyUnderWay) {
  Pair pair;
  CopyGate gate;
  const std::string bytes = Pattern(3000, 1);
  std::string into(3000, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, into, received);
  ASSERT_TRUE(gate.AwaitOne());
  pair.far->close();
  pair.far_side.Flush();
  EXPECT_FALSE(received.ended());
  ASSERT_TRUE(gate.LetOne());
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kCancelled));
  EXPECT_FALSE(sent.Wait().ok());
}

// Memory that only its own process may read, as what CUDA pins may be.
class SecretMemory {
 public:
  explicit SecretMemory(size_t nbytes) : nbytes_(nbytes) {
    const UniqueFd file(static_cast<int>(syscall(SYS_memfd_secret, 0)));
    if (!file.valid() || ftruncate(file.get(), nbytes) != 0) return;
    void* const data = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                            file.get(), 0);
    if (data != MAP_FAILED) data_ = static_cast<char*>(data);
  }
  ~SecretMemory() {
    if (data_ != nullptr) munmap(data_, nbytes_);
  }
  char* data() const { return data_; }  // null: the system has none

 private:
  const size_t nbytes_;
  char* data_ = nullptr;
};

TEST(LocalChannelTest, MemoryThatOnlyTheSenderMayReadIsStreamed) {
  const SecretMemory secret(kMiB);
  if (secret.data() == nullptr) GTEST_SKIP() << "needs memfd_secret";
  const std::string bytes = Pattern(kMiB, 1);
  std::memcpy(secret.data(), bytes.data(), kMiB);
  Pair pair;
  std::string into(kMiB, '\0');
  Outcome sent, received;
  pair.near->send(tensorpipe::CpuBuffer{secret.data()}, kMiB, sent.done());
  Receive(*pair.far, into, received);
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_TRUE(into == bytes);
  for (Side* side : {&pair.near_side, &pair.far_side}) {
    ExpectCarried(side->carried(), 1, "stream", "lets only that process read");
  }
  pair.Transfer(bytes, __LINE__);
  EXPECT_EQ(pair.far_side.carried().back().strategy, "vm");
}

TEST(LocalChannelTest, ChannelThatWaitsInLineToProveItsPeerCanBeJoined) {
  HeldExecutor copier;
  LocalChannelOptions options = Proved();
  options.copier = &copier;
  Pair pair(Proved(), options);
  ASSERT_TRUE(copier.AwaitOne());
  pair.far_side.context().join();
}

TEST(LocalChannelTest, CopiesAreToldOfFromBeginningToEnd) {
  HeldExecutor copier;
  std::atomic<int> under_way = 0;
  LocalChannelOptions options = Proved();
  options.copier = &copier;
  options.piece_bytes = 1000;
  options.on_copy = [&](bool begun) { under_way += begun ? 1 : -1; };
  Pair pair(Proved(), options);
  const std::string bytes = Pattern(2000, 1);
  std::string into(2000, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, into, received);
  ASSERT_TRUE(copier.RunOne());  // the proof
  for (int piece = 0; piece < 2; ++piece) {
    ASSERT_TRUE(copier.AwaitOne());
    EXPECT_EQ(under_way, 1);
    ASSERT_TRUE(copier.RunOne());
  }
  EXPECT_THAT(received.Wait(), IsOk());
  EXPECT_EQ(under_way, 0);
}

TEST(LocalChannelTest, SenderThatClosedIsNotReadToTheEnd) {
  HeldExecutor copier;
  LocalChannelOptions options = Proved();
  options.copier = &copier;
  options.piece_bytes = 1000;
  Pair pair(Proved(), options);
  const std::string bytes = Pattern(3000, 1);
  std::string into(3000, '\0');
  Outcome sent, received;
  Send(*pair.near, bytes, sent);
  Receive(*pair.far, into, received);
  ASSERT_TRUE(copier.RunOne());
  ASSERT_TRUE(copier.RunOne());
  pair.near->close();
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kCancelled));
  ASSERT_TRUE(copier.RunOne());
  EXPECT_FALSE(received.Wait().ok());
  EXPECT_EQ(into.substr(2000), std::string(1000, '\0'));
}

TEST(LocalChannelTest, JoinWaitsForCallbacks) {
  UvConnections wire;
  std::string into(100, 'x');
  Outcome received;
  auto side = std::make_unique<Side>(Proved());
  auto channel = side->Open(wire.dialed);
  Receive(*channel, into, received);
  side->context().join();
  EXPECT_TRUE(received.ended());
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kCancelled));
}

TEST(LocalChannelTest, ChannelOfAClosedContextIsClosed) {
  UvConnections wire;
  Side side(Proved());
  side.context().close();
  auto channel = side.Open(wire.dialed);
  std::string into(100, 'x');
  Outcome received;
  Receive(*channel, into, received);
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kCancelled));
}

TEST(LocalChannelTest, ThrowingCallbackIsReported) {
  absl::Notification wedged;
  absl::Status why;
  LocalChannelOptions options = Proved();
  options.on_wedged = [&](absl::Status status) {
    why = std::move(status);
    wedged.Notify();
  };
  Pair pair(options, Proved());
  pair.near->recv(
      tensorpipe::CpuBuffer{nullptr}, 0,
      [](const tensorpipe::Error&) { throw std::runtime_error("impossible"); });
  ASSERT_TRUE(wedged.WaitForNotificationWithTimeout(kPatience));
  EXPECT_THAT(why, StatusIs(StatusCode::kInternal, HasSubstr("impossible")));
}

TEST(LocalChannelTest, HostsAreToldApartByTheirDescriptors) {
  Side side(Proved()), same;
  ASSERT_TRUE(side.context().isViable());
  const auto& descriptors = side.context().deviceDescriptors();
  EXPECT_EQ(descriptors, same.context().deviceDescriptors());
  ASSERT_EQ(descriptors.size(), 1u);
  const std::string mine = descriptors.begin()->second;
  EXPECT_TRUE(side.context().canCommunicateWithRemote(mine, mine));
  EXPECT_FALSE(side.context().canCommunicateWithRemote(mine, mine + "1"));
  EXPECT_FALSE(side.context().canCommunicateWithRemote(mine + "1", mine));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
