// tensorpipe throws while a channel copies into a user's memory.
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/tensorpipe.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "channel/local_channel.h"
#include "tests/testing/copy_gate.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transfer/backend_registry.h"
#include "transport/hub.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::CopyGate;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;

using absl::StatusCode;

// Once armed, the next receive of any channel throws.
struct Fuse {
  std::atomic<bool> armed = false;
  absl::Notification thrown;
};

class FusedChannel : public tensorpipe::channel::Channel {
 public:
  FusedChannel(std::shared_ptr<Channel> real, Fuse* fuse)
      : real_(std::move(real)), fuse_(fuse) {}
  void send(tensorpipe::Buffer buffer, size_t length,
            tensorpipe::channel::TSendCallback callback) override {
    real_->send(buffer, length, std::move(callback));
  }
  void recv(tensorpipe::Buffer buffer, size_t length,
            tensorpipe::channel::TRecvCallback callback) override {
    if (fuse_->armed.exchange(false)) {
      fuse_->thrown.Notify();
      throw std::runtime_error("impossible");
    }
    real_->recv(buffer, length, std::move(callback));
  }
  void setId(std::string id) override { real_->setId(std::move(id)); }
  void close() override { real_->close(); }

 private:
  const std::shared_ptr<Channel> real_;
  Fuse* const fuse_;
};

class FusedContext : public tensorpipe::channel::Context {
 public:
  FusedContext(std::shared_ptr<Context> real, Fuse* fuse)
      : real_(std::move(real)), fuse_(fuse) {}
  bool isViable() const override { return real_->isViable(); }
  size_t numConnectionsNeeded() const override { return 1; }
  const std::unordered_map<tensorpipe::Device, std::string>& deviceDescriptors()
      const override {
    return real_->deviceDescriptors();
  }
  bool canCommunicateWithRemote(const std::string& local,
                                const std::string& remote) const override {
    return real_->canCommunicateWithRemote(local, remote);
  }
  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<std::shared_ptr<tensorpipe::transport::Connection>>
          connections,
      tensorpipe::channel::Endpoint endpoint) override {
    return std::make_shared<FusedChannel>(
        real_->createChannel(std::move(connections), endpoint), fuse_);
  }
  void setId(std::string id) override { real_->setId(std::move(id)); }
  void close() override { real_->close(); }
  void join() override { real_->join(); }

 private:
  const std::shared_ptr<Context> real_;
  Fuse* const fuse_;
};

// What the caller sends comes by copies that the gate holds up.
class WedgedTest : public LinkTest {
 protected:
  static constexpr int64_t kPiece = 256 << 10;

  void SetUp() override {
    ChannelBackend backend;
    backend.name = "local";
    backend.make = [this](const ChannelEnvironment& environment) {
      environment_ = environment;
      LocalChannelOptions options;
      options.copier = environment.copier;
      options.loop = environment.loop;
      options.peer_of = PeerProcessOf;
      options.on_copy = environment.on_copy;
      options.on_wedged = environment.on_wedged;
      return std::make_shared<FusedContext>(
          MakeLocalChannel(std::move(options)), &fuse_);
    };
    ASSERT_THAT(registry_.Register(backend), IsOk());
    EndpointOptions sends, receives;
    sends.executor = &executor_;
    receives.executor = Executor::Inline();
    receives.backends = &registry_;
    TransferRules rules = BasicRules();
    rules.paths = {"unix/local"};
    rules.piece_bytes = kPiece;
    rules.limits.body_lanes = 2;
    rules.limits.eager_bytes = 0;  // into the user's memory
    absl::StatusOr<InProcessPair> pair =
        MakeInProcessPair(sends, receives, rules, rules);
    ASSERT_THAT(pair, IsOk());
    pair_ = std::make_unique<InProcessPair>(*std::move(pair));
  }

  static TensorMessage OfOnePiece() {
    TensorMessage message = PatternMessage(kPiece, 1);
    message.payload.clear();  // it would be another
    return message;
  }

  // Returns once a copy into a user's memory is under way.
  void BeginReceive() {
    ReceiveOptions options;
    options.into.tensors = {at::zeros({kPiece}, at::kByte)};
    options.into.names = {"data"};
    callee().Receive(options, received_.done());
    caller().Send(OfOnePiece(), {}, {}, sent_.done());
    ASSERT_TRUE(gate_.AwaitOne());
  }

  // Everything that the loop has to do, and what follows from that.
  void Settle() {
    for (int turn = 0; turn < 30; ++turn) {
      absl::Notification ran;
      environment_.loop->Run([&] { ran.Notify(); });
      ran.WaitForNotification();
    }
  }

  void ExpectFence() {
    Settle();
    EXPECT_FALSE(received_.ComesWithin(std::chrono::milliseconds(0)));
    ASSERT_TRUE(gate_.LetOne());
    EXPECT_THAT(received_.Wait(),
                StatusIs(StatusCode::kInternal, HasSubstr("impossible")));
    EXPECT_FALSE(sent_.Wait().ok());
    pair_.reset();
  }

  Fuse fuse_;
  CopyGate gate_;
  BackendRegistry registry_;
  ChannelEnvironment environment_;
  Outcome<Received> received_;
  Outcome<Receipt> sent_;
};

TEST_F(WedgedTest, CallbackThatThrewWaitsForTheCopyUnderWay) {
  BeginReceive();
  environment_.loop->Run(
      [&] { environment_.on_wedged(absl::InternalError("impossible")); });
  ExpectFence();
}

TEST_F(WedgedTest, CallThatThrewWaitsForTheCopyUnderWay) {
  BeginReceive();
  fuse_.armed = true;
  Outcome<Received> received;
  callee().Receive({}, received.done());
  Outcome<Receipt> sent;
  caller().Send(OfOnePiece(), {}, {}, sent.done());
  ASSERT_TRUE(fuse_.thrown.WaitForNotificationWithTimeout(absl::Seconds(30)));
  ExpectFence();
  EXPECT_FALSE(received.Wait().ok());
  EXPECT_FALSE(sent.Wait().ok());
}

}  // namespace
}  // namespace tensorferry
