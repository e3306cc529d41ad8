#ifndef TENSORFERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_
#define TENSORFERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "tests/testing/status_matchers.h"
#include "tests/transport/hello.h"
#include "tests/transport/pipe_fixture.h"
#include "tests/transport/raw_peer.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/hub.h"

namespace tensorferry {

using ConnectionPtr = std::shared_ptr<tensorpipe::transport::Connection>;

// So often that the loop has looked at its descriptors.
inline void Turn(PollLoop& loop) {
  for (int i = 0; i < 100; ++i) {
    std::promise<void> turned;
    loop.Post([&] { turned.set_value(); });
    turned.get_future().wait();
  }
}

// Two ends of a connection of a hub, without tensorpipe.
class ConnectionFixture : public ::testing::Test {
 protected:
  ConnectionFixture() { Start({}); }
  ~ConnectionFixture() override {
    if (dialing_ != nullptr) dialing_->join();
    if (accepting_ != nullptr) accepting_->join();
  }

  void Start(HubOptions options) {
    options.loop = loop_.get();
    hub_ = *Hub::Create(std::move(options));
  }

  void Open(Wire wire) {
    auto expected = hub_->Expect(
        key_, {wire}, absl::InfiniteFuture(),
        {.on_wedged = [this](absl::Status why) { wedged_.set_value(why); }});
    ASSERT_THAT(expected, testing::IsOk());
    accepting_ = expected->context;
    listener_ = accepting_->listen(expected->listen);
    address_ = expected->addresses[0];
    auto dialing = hub_->Dial(key_, address_, {});
    ASSERT_THAT(dialing, testing::IsOk());
    dialing_ = *dialing;
    Connect(dialed_, accepted_);
  }

  void Connect(ConnectionPtr& dialed, ConnectionPtr& accepted) {
    std::promise<ConnectionPtr> came;
    listener_->accept([&](const tensorpipe::Error&, ConnectionPtr connection) {
      came.set_value(std::move(connection));
    });
    dialed = dialing_->connect("anything");
    std::promise<void> open;  // which the peer may be before us
    dialed->write(hello_, [&](const tensorpipe::Error&) { open.set_value(); });
    accepted = came.get_future().get();
    ASSERT_NE(accepted, nullptr);
    std::promise<void> read;
    accepted->read(hello_, [&](const tensorpipe::Error& error) {
      EXPECT_FALSE(error) << error.what();
      read.set_value();
    });
    read.get_future().wait();
    open.get_future().wait();
  }

  // Whether one more connection is let in.
  bool ConnectsAgain() {
    auto connection = dialing_->connect("anything");
    std::promise<bool> written;
    connection->write(hello_, [&](const tensorpipe::Error& error) {
      written.set_value(!error);
    });
    return written.get_future().get();
  }

  static std::future<absl::Status> Read(ConnectionPtr& connection, void* data,
                                        size_t size) {
    auto done = std::make_shared<std::promise<absl::Status>>();
    connection->read(
        data, size,
        [done](const tensorpipe::Error& error, const void*, size_t) {
          done->set_value(error ? HubErrorStatus(error.what())
                                : absl::OkStatus());
        });
    return done->get_future();
  }

  const SessionKey key_ = RandomSession();
  Hello hello_;
  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  std::unique_ptr<Hub> hub_;
  std::shared_ptr<tensorpipe::transport::Context> accepting_, dialing_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
  std::string address_;
  ConnectionPtr dialed_, accepted_;
  std::promise<absl::Status> wedged_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_
