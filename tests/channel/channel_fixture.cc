#include "tests/channel/channel_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>

#include "tests/testing/status_matchers.h"
#include "tests/transport/hello.h"
#include "transport/descriptors.h"

namespace tensorferry {
namespace testing {
namespace {

absl::Status StatusOf(const tensorpipe::Error& error) {
  if (!error) return absl::OkStatus();
  return LocalChannelErrorStatus(error).value_or(HubErrorStatus(error.what()));
}

}  // namespace

std::function<void(const tensorpipe::Error&)> Outcome::done() {
  return [state = state_](const tensorpipe::Error& error) {
    state->status = StatusOf(error);
    state->ended.Notify();  // twice: ends the test program
  };
}

absl::Status Outcome::Wait() {
  if (!state_->ended.WaitForNotificationWithTimeout(kPatience)) {
    return absl::DeadlineExceededError("no callback");
  }
  return state_->status;
}

std::string Pattern(size_t length, int seed) {
  std::string block(4099, '\0');  // prime: no piece's length is a multiple
  uint32_t value = 2654435761u * (seed + 1);
  for (char& byte : block) {
    value = value * 1664525u + 1013904223u;
    byte = static_cast<char>(value >> 24);
  }
  std::string bytes;
  bytes.reserve(length);
  while (bytes.size() < length) {
    bytes.append(block, 0, length - bytes.size());
  }
  return bytes;
}

UvConnections::UvConnections() : context_(tensorpipe::transport::uv::create()) {
  listener_ = context_->listen("127.0.0.1");
  absl::Notification came;
  listener_->accept(
      [&](const tensorpipe::Error&, std::shared_ptr<Connection> connection) {
        accepted = std::move(connection);
        came.Notify();
      });
  dialed = context_->connect(listener_->addr());
  came.WaitForNotification();
}

UvConnections::~UvConnections() {
  dialed = accepted = nullptr;
  listener_ = nullptr;
  context_->join();
}

UnixConnections::UnixConnections() {
  HubOptions options;
  options.loop = loop_.get();
  options.handshake_timeout = absl::Minutes(1);  // of slow machines
  hub_ = *Hub::Create(options);
  const SessionKey key{"channel test", std::string(16, 'k')};
  Hub::Expected expected =
      *hub_->Expect(key, {Wire::kUnix}, absl::InfiniteFuture(), {});
  accepting_ = expected.context;
  dialing_ = *hub_->Dial(key, expected.addresses.at(0), {});
  listener_ = accepting_->listen(expected.listen);
  absl::Notification came, greeted;
  listener_->accept(
      [&](const tensorpipe::Error&, std::shared_ptr<Connection> connection) {
        accepted = std::move(connection);
        came.Notify();
      });
  Hello hello;
  dialed = dialing_->connect("");
  dialed->write(hello, [](const tensorpipe::Error&) {});
  came.WaitForNotification();
  accepted->read(hello, [&](const tensorpipe::Error&) { greeted.Notify(); });
  greeted.WaitForNotification();
}

UnixConnections::~UnixConnections() {
  dialed = accepted = nullptr;
  listener_ = nullptr;
  dialing_->join();
  accepting_->join();
}

DescriptorPassing HubDescriptors() {
  return {.carried_by = CarriesDescriptors,
          .write = WriteWithDescriptor,
          .take = TakeDescriptor};
}

Side::Side(LocalChannelOptions options)
    : context_(MakeLocalChannel(Complete(std::move(options)))) {}

LocalChannelOptions Side::Complete(LocalChannelOptions options) {
  if (options.loop == nullptr) options.loop = &loop_;
  if (options.copier == nullptr) options.copier = &copier_;
  used_loop_ = options.loop;
  options.on_carried = [this](Carried carried) {
    absl::MutexLock lock(&mu_);
    carried_.push_back(std::move(carried));
  };
  return options;
}

Side::~Side() { context_->join(); }

std::shared_ptr<tensorpipe::channel::Channel> Side::Open(
    std::shared_ptr<Connection> connection) {
  return context_->createChannel({std::move(connection)},
                                 tensorpipe::channel::Endpoint::kConnect);
}

std::vector<Carried> Side::carried() {
  absl::MutexLock lock(&mu_);
  return carried_;
}

void Side::Flush() {
  absl::Notification ran;
  used_loop_->Run([&] { ran.Notify(); });
  ran.WaitForNotification();
}

std::optional<PeerProcess> ThisProcess(const Connection&) {
  return PeerProcess{getpid(), geteuid()};
}

void Send(tensorpipe::channel::Channel& channel, const std::string& bytes,
          Outcome& outcome) {
  channel.send(tensorpipe::CpuBuffer{const_cast<char*>(bytes.data())},
               bytes.size(), outcome.done());
}

void Receive(tensorpipe::channel::Channel& channel, std::string& into,
             Outcome& outcome) {
  channel.recv(tensorpipe::CpuBuffer{into.data()}, into.size(), outcome.done());
}

void RawPeer::Write(const LocalFrame& frame) {
  const LocalFrameBytes bytes = EncodeLocalFrame(frame);
  Write(std::string(bytes.begin(), bytes.end()));
}

void RawPeer::Write(std::string bytes) {
  auto kept = std::make_shared<std::string>(std::move(bytes));
  connection_->write(kept->data(), kept->size(),
                     [kept](const tensorpipe::Error&) {});
}

void RawPeer::WriteWith(int descriptor, const LocalFrame& frame) {
  auto kept = std::make_shared<std::pair<LocalFrameBytes, UniqueFd>>(
      EncodeLocalFrame(frame), UniqueFd(dup(descriptor)));
  WriteWithDescriptor(*connection_, kept->second.get(), kept->first.data(),
                      kept->first.data(), kept->first.size(),
                      [kept](const tensorpipe::Error&) {});
}

std::optional<UniqueFd> RawPeer::TakeDescriptor() {
  return tensorferry::TakeDescriptor(*connection_);
}

absl::StatusOr<LocalFrame> RawPeer::Read() {
  struct State {
    Outcome outcome;
    std::string bytes;
  };
  auto state = std::make_shared<State>();
  connection_->read(
      [state, done = state->outcome.done()](const tensorpipe::Error& error,
                                            const void* data, size_t length) {
        if (!error) state->bytes.assign(static_cast<const char*>(data), length);
        done(error);
      });
  const absl::Status status = state->outcome.Wait();
  if (!status.ok()) return status;
  return DecodeLocalFrame(state->bytes);
}

bool RawPeer::AwaitEnd() {
  while (true) {
    const absl::StatusOr<LocalFrame> frame = Read();
    if (!frame.ok()) return absl::IsUnavailable(frame.status());
  }
}

void ExpectCarried(const std::vector<Carried>& carried, size_t count,
                   const std::string& strategy, absl::Status Carried::*skipped,
                   const std::string& reason) {
  using ::testing::Each;
  using ::testing::Field;
  EXPECT_THAT(carried, ::testing::SizeIs(count));
  EXPECT_THAT(carried, Each(Field(&Carried::strategy, strategy)));
  if (reason.empty()) {
    EXPECT_THAT(carried, Each(Field(skipped, IsOk())));
  } else {
    EXPECT_THAT(
        carried,
        Each(Field(skipped, StatusIs(absl::StatusCode::kFailedPrecondition,
                                     ::testing::HasSubstr(reason)))));
  }
}

}  // namespace testing
}  // namespace tensorferry
