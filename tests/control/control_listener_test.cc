#include "control/control_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "control/standard_services.h"
#include "tests/control/loopback.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

// Descriptors until there are none, but for some.
class FewDescriptorsLeft {
 public:
  explicit FewDescriptorsLeft(int left) {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit low = before_;
    low.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &low);
    int fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
      taken_.push_back(fd);
    }
    for (; left > 0; --left) {
      close(taken_.back());
      taken_.pop_back();
    }
  }
  ~FewDescriptorsLeft() {
    for (int fd : taken_) close(fd);
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_ = {};
  std::vector<int> taken_;
};

class ControlListenerTest : public ::testing::Test,
                            protected testing::TestFolder {
 protected:
  ControlListenerTest() : TestFolder(kForSockets) {}

  absl::StatusOr<std::unique_ptr<ControlListener>> Listen() {
    return ControlListener::Listen({.address = absl::StrCat("unix:", path_),
                                    .access = Access::Everybody()},
                                   builder_);
  }
  bool FileIsThere() const { return std::filesystem::exists(path_); }

  grpc::ServerBuilder builder_;
  const std::string path_ = Path("sock");
};

TEST_F(ControlListenerTest, TheFileOfItsSocketGoesWithIt) {
  auto listener = Listen();
  ASSERT_THAT(listener, IsOk());
  EXPECT_TRUE(FileIsThere());
  listener->reset();
  EXPECT_FALSE(FileIsThere());
}

TEST_F(ControlListenerTest, AFileThatTookItsPlaceStays) {
  auto listener = Listen();
  ASSERT_THAT(listener, IsOk());
  std::filesystem::rename(path_, path_ + ".old");
  auto other = Listen();
  ASSERT_THAT(other, IsOk());
  listener->reset();
  EXPECT_TRUE(FileIsThere());
}

TEST_F(ControlListenerTest, WithoutDescriptorsItSaysSoAndLeavesNoFile) {
  absl::Status status;
  {
    const FewDescriptorsLeft scarce(1);  // the socket's
    status = Listen().status();
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr("cannot listen on unix:")));
  EXPECT_FALSE(FileIsThere());
}

// ---- with a server behind it ----

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// A stranger on 127.0.0.1.
class Stranger {
 public:
  explicit Stranger(absl::string_view address)
      : fd_(ConnectToLoopback(address)) {}
  void Say(absl::string_view bytes) {
    EXPECT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // The first word of HTTP/2, and settings: none of its own, thanks for theirs.
  void SpeakHttp() {
    Say(kPreface);
    Say(absl::string_view("\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0", 18));
  }
  bool IsSpokenTo() {
    char byte;
    return HearsWithin(kPatience) && recv(fd_.get(), &byte, 1, MSG_PEEK) == 1;
  }
  // Neither a word nor a hang-up, so far.
  bool HeardNothing() { return !HearsWithin(absl::ZeroDuration()); }
  // Whatever comes before.
  bool IsHungUpOn() {
    const absl::Time until = Clock::Real()->Now() + kPatience;
    char bytes[4096];
    while (Clock::Real()->Now() < until) {
      if (HearsWithin(absl::Seconds(1)) &&
          recv(fd_.get(), bytes, sizeof(bytes), 0) <= 0) {
        return true;
      }
    }
    return false;
  }

 private:
  bool HearsWithin(absl::Duration time) {
    pollfd end = {fd_.get(), POLLIN, 0};
    return poll(&end, 1, absl::ToInt64Milliseconds(time)) == 1;
  }

  UniqueFd fd_;
};

class ControlPortTest : public ::testing::Test {
 protected:
  void Serve(ControlListenerOptions options) {
    EnableHealthAndReflection();
    options.address = "127.0.0.1:0";
    options.access = Access::Everybody();
    grpc::ServerBuilder builder;
    FERRY_ASSERT_OK_AND_ASSIGN(
        listener_, ControlListener::Listen(std::move(options), builder));
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    listener_->Start();
  }
  void TearDown() override {
    listener_.reset();
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_ = nullptr;
  }

  // One whom the listener has answered: so it has all who came before.
  std::unique_ptr<Stranger> Answered() {
    auto stranger = std::make_unique<Stranger>(listener_->address());
    stranger->SpeakHttp();
    EXPECT_TRUE(stranger->IsSpokenTo());
    return stranger;
  }

  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ControlListener> listener_;
};

TEST_F(ControlPortTest, WhoSaysNothingForTenSecondsIsHungUpOn) {
  FakeClock clock;
  Serve({.clock = &clock});
  Stranger silent(listener_->address()), short_of_a_word(listener_->address());
  short_of_a_word.Say(absl::string_view(kPreface).substr(0, 23));
  auto answered = Answered();
  clock.Advance(absl::Seconds(10) - absl::Milliseconds(1));
  auto later = Answered();
  EXPECT_TRUE(silent.HeardNothing());
  EXPECT_TRUE(short_of_a_word.HeardNothing());
  clock.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(silent.IsHungUpOn());
  EXPECT_TRUE(short_of_a_word.IsHungUpOn());
  TearDown();  // the clock goes before the fixture does
}

TEST_F(ControlPortTest, WhereDescriptorsAreScarceTheSilentHaveTwoSeconds) {
  FakeClock clock;
  Serve({.clock = &clock});
  Stranger first(listener_->address());
  auto answered = Answered();
  clock.Advance(absl::Milliseconds(1));
  Stranger second(listener_->address());
  auto also_answered = Answered();
  {
    // The newcomer's, and three that a connection is not taken for.
    const FewDescriptorsLeft scarce(4);
    Stranger newcomer(listener_->address());
    newcomer.SpeakHttp();
    clock.Advance(absl::Seconds(2) - absl::Milliseconds(1));
    EXPECT_TRUE(first.IsHungUpOn());
    EXPECT_TRUE(second.HeardNothing());
    EXPECT_TRUE(newcomer.HeardNothing());
    clock.Advance(absl::Milliseconds(1));
    EXPECT_TRUE(second.IsHungUpOn());
    EXPECT_TRUE(newcomer.IsSpokenTo());
  }
  TearDown();
}

TEST_F(ControlPortTest, OfThoseThatSayNothingTheOldestGoes) {
  Serve({.max_silent = 2});
  Stranger first(listener_->address()), second(listener_->address()),
      third(listener_->address());
  EXPECT_TRUE(first.IsHungUpOn());
  second.SpeakHttp();
  EXPECT_TRUE(second.IsSpokenTo());
  third.SpeakHttp();
  EXPECT_TRUE(third.IsSpokenTo());
}

TEST_F(ControlPortTest, WhoComesWhenItIsFullWaitsUntilAnotherGoes) {
  Serve({.max_connections = 1});
  std::deque<Stranger> strangers;
  for (int i = 0; i < 6; ++i) {
    strangers.emplace_back(listener_->address()).SpeakHttp();
  }
  // In the order in which they came, each once the one before has gone.
  for (; !strangers.empty(); strangers.pop_front()) {
    EXPECT_TRUE(strangers.front().IsSpokenTo());
    for (size_t i = 1; i < strangers.size(); ++i) {
      EXPECT_TRUE(strangers[i].HeardNothing()) << i << " after the first";
    }
  }
}

TEST_F(ControlPortTest, APeerThatStoppedIsHungUpOn) {
  Serve({.lease = absl::Milliseconds(100)});
  Stranger stopped(listener_->address());
  stopped.SpeakHttp();
  EXPECT_TRUE(stopped.IsSpokenTo());
  EXPECT_TRUE(stopped.IsHungUpOn());
}

// Streams of reflection's, each of which needs a thread there until it ends.
class ReflectionStreams {
 public:
  ReflectionStreams(grpc::GenericStub& stub, int count) : left_(count) {
    for (int i = 0; i < count; ++i) {
      streams_.push_back(std::make_unique<Stream>(*this, stub));
    }
  }
  ~ReflectionStreams() {
    for (const auto& stream : streams_) stream->context.TryCancel();
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](int* left) { return *left == 0; }, &left_));
  }
  // Once each has an answer or RESOURCE_EXHAUSTED: how many have an answer. -1:
  // it takes too long.
  int Answered() {
    const auto all = [this] { return answered_ + refused_ == Count(); };
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&all), kPatience) ? answered_
                                                                  : -1;
  }

 private:
  struct Stream : grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
    Stream(ReflectionStreams& owner_in, grpc::GenericStub& stub)
        : owner(owner_in) {
      stub.PrepareBidiStreamingCall(
          &context,
          "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {},
          this);
      StartWrite(&request);
      StartRead(&answer);
      StartCall();
    }
    void OnReadDone(bool ok) override {
      absl::MutexLock lock(&owner.mu_);
      if (ok) ++owner.answered_;
    }
    void OnDone(const grpc::Status& status) override {
      absl::MutexLock lock(&owner.mu_);
      if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
        ++owner.refused_;
      }
      --owner.left_;
    }
    ReflectionStreams& owner;
    grpc::ClientContext context;
    grpc::ByteBuffer request = ListServices(), answer;
  };

  // A ServerReflectionRequest with list_services.
  static grpc::ByteBuffer ListServices() {
    const grpc::Slice bytes(std::string("\x3a\0", 2));
    return grpc::ByteBuffer(&bytes, 1);
  }
  int Count() const { return static_cast<int>(streams_.size()); }

  absl::Mutex mu_;
  int answered_ ABSL_GUARDED_BY(mu_) = 0;
  int refused_ ABSL_GUARDED_BY(mu_) = 0;
  int left_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Stream>> streams_;
};

TEST_F(ControlPortTest, StreamsThatNeedAThreadGetSomeAndNoMore) {
  Serve({});
  grpc::GenericStub stub(grpc::CreateChannel(
      listener_->address(), grpc::InsecureChannelCredentials()));
  constexpr int kThreads = 32;
  ReflectionStreams streams(stub, 2 * kThreads);
  const int answered = streams.Answered();
  EXPECT_GT(answered, 0);
  EXPECT_LE(answered, kThreads);
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
