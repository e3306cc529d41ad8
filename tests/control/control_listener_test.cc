#include "control/control_listener.h"

#include <arpa/inet.h>
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
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "control/standard_services.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

// Descriptors until there are none, but for one.
class OneDescriptorLeft {
 public:
  OneDescriptorLeft() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit low = before_;
    low.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &low);
    int fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
      taken_.push_back(fd);
    }
    close(taken_.back());
    taken_.pop_back();
  }
  ~OneDescriptorLeft() {
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
    const OneDescriptorLeft scarce;  // the socket's
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
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int port = 0;
    EXPECT_TRUE(
        absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    name.sin_port = htons(port);
    EXPECT_EQ(
        connect(fd_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)),
        0);
  }
  void Say(absl::string_view bytes) {
    EXPECT_EQ(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // The first word of HTTP/2, and settings: none of its own, thanks for theirs.
  void SpeakHttp() {
    Say(kPreface);
    Say(absl::string_view("\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0", 18));
  }
  bool IsSpokenTo(absl::Duration within = kPatience) {
    pollfd end = {fd_.get(), POLLIN, 0};
    char byte;
    return poll(&end, 1, absl::ToInt64Milliseconds(within)) == 1 &&
           recv(fd_.get(), &byte, 1, MSG_PEEK) == 1;
  }
  // Whatever comes before.
  bool IsHungUpOn() {
    const absl::Time until = Clock::Real()->Now() + kPatience;
    char bytes[4096];
    while (Clock::Real()->Now() < until) {
      pollfd end = {fd_.get(), POLLIN, 0};
      if (poll(&end, 1, 1000) == 1 &&
          recv(fd_.get(), bytes, sizeof(bytes), 0) <= 0) {
        return true;
      }
    }
    return false;
  }

 private:
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
    server_->Shutdown(std::chrono::system_clock::now());
  }

  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ControlListener> listener_;
};

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
  auto first = std::make_unique<Stranger>(listener_->address());
  first->SpeakHttp();
  EXPECT_TRUE(first->IsSpokenTo());
  Stranger second(listener_->address());
  second.SpeakHttp();
  EXPECT_FALSE(second.IsSpokenTo(absl::Milliseconds(200)));
  first = nullptr;
  EXPECT_TRUE(second.IsSpokenTo());
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
  bool SomeAreRefused() {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&refused_), kPatience);
  }

 private:
  struct Stream : grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
    Stream(ReflectionStreams& owner_in, grpc::GenericStub& stub)
        : owner(owner_in) {
      stub.PrepareBidiStreamingCall(
          &context,
          "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {},
          this);
      StartCall();
    }
    void OnDone(const grpc::Status& status) override {
      absl::MutexLock lock(&owner.mu_);
      owner.refused_ |=
          status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
      --owner.left_;
    }
    ReflectionStreams& owner;
    grpc::ClientContext context;
  };

  absl::Mutex mu_;
  bool refused_ ABSL_GUARDED_BY(mu_) = false;
  int left_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Stream>> streams_;
};

TEST_F(ControlPortTest, StreamsThatNeedAThreadGetSomeAndNoMore) {
  Serve({});
  grpc::GenericStub stub(grpc::CreateChannel(
      listener_->address(), grpc::InsecureChannelCredentials()));
  ReflectionStreams streams(stub, 64);
  EXPECT_TRUE(streams.SomeAreRefused());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
