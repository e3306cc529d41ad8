// From one wire to the next, when the peer knows connections of the first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "tests/testing/status_matchers.h"
#include "tests/transfer/link_fixture.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;

using Address = std::pair<sockaddr_un, socklen_t>;

// `name`: "@abstract".
Address AddressOf(const std::string& name) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
  return {address, offsetof(sockaddr_un, sun_path) + name.size()};
}

UniqueFd UnixSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience = {.tv_sec = 30};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return fd;
}

bool Forward(int from, int to, size_t bytes) {
  std::string buffer(bytes, '\0');
  return recv(from, buffer.data(), bytes, MSG_WAITALL) ==
             static_cast<ssize_t>(bytes) &&
         send(to, buffer.data(), bytes, MSG_NOSIGNAL) ==
             static_cast<ssize_t>(bytes);
}

// Lets through to a data port what proves a key, and then breaks.
class BreakingRelay {
 public:
  BreakingRelay(std::string to, size_t session_id_bytes)
      : to_(std::move(to)), hello_bytes_(48 + session_id_bytes + 32) {
    const auto [address, length] = AddressOf(name_);
    bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), length);
    listen(listening_.get(), 16);
    accepting_ = std::thread([this] { AcceptAll(); });
  }
  ~BreakingRelay() {
    shutdown(listening_.get(), SHUT_RDWR);
    accepting_.join();
    for (std::thread& relay : relays_) relay.join();
  }

  std::string address() const { return "unix://" + name_; }

 private:
  static constexpr size_t kAnswerBytes = 40;

  void AcceptAll() {
    while (true) {
      UniqueFd fd(accept(listening_.get(), nullptr, nullptr));
      if (!fd.valid() && errno == EAGAIN) continue;
      if (!fd.valid()) return;
      relays_.emplace_back([this, fd = std::move(fd)] { Relay(fd.get()); });
    }
  }

  void Relay(int client) {
    UniqueFd server = UnixSocket();
    const auto [address, length] = AddressOf(to_);
    connect(server.get(), reinterpret_cast<const sockaddr*>(&address), length);
    const bool proved = Forward(client, server.get(), hello_bytes_) &&
                        Forward(server.get(), client, kAnswerBytes);
    if (!proved) return;
    // It has seen the end when it closes.
    shutdown(server.get(), SHUT_WR);
    char end;
    recv(server.get(), &end, 1, 0);
  }

  const std::string to_;
  const size_t hello_bytes_;  // with the proof
  const std::string name_ = "@tensorferry-relay-" + std::to_string(getpid());
  UniqueFd listening_ = UnixSocket();
  std::vector<std::thread> relays_;
  std::thread accepting_;
};

TEST_F(LinkTest, WireThatBreaksAfterItsConnectionsAreProvedLeadsToTheNext) {
  EndpointOptions options;
  options.executor = &executor_;
  absl::StatusOr<std::unique_ptr<Endpoint>> caller = Endpoint::Create(options);
  absl::StatusOr<std::unique_ptr<Endpoint>> callee = Endpoint::Create(options);
  ASSERT_THAT(caller, IsOk());
  ASSERT_THAT(callee, IsOk());
  TransferRules rules = BasicRules();
  rules.paths = {"unix/basic", "tcp/basic"};
  StatusOutcome up;
  absl::StatusOr<Endpoint::Expected> expected =
      (*callee)->Expect(rules, up.done(), nullptr);
  ASSERT_THAT(expected, IsOk());
  ASSERT_EQ(expected->addresses.size(), 2u);
  const std::string unix_wire = "unix://";
  ASSERT_EQ(expected->addresses[0].substr(0, unix_wire.size()), unix_wire);
  BreakingRelay relay(expected->addresses[0].substr(unix_wire.size()),
                      rules.session_id.size());
  Outcome<std::shared_ptr<Link>> dialed;
  (*caller)->Dial({relay.address(), expected->addresses[1]}, expected->key,
                  rules, absl::Seconds(10), nullptr, dialed.done());
  absl::StatusOr<std::shared_ptr<Link>> link = dialed.Wait();
  ASSERT_THAT(link, IsOk());
  EXPECT_THAT(up.Wait(), IsOk());
  Outcome<Received> received;
  Outcome<Receipt> sent;
  expected->link->Receive({}, received.done());
  (*link)->Send(PatternMessage(10, 1), {}, {}, sent.done());
  EXPECT_THAT(received.Wait(), IsOk());
  absl::StatusOr<Receipt> receipt = sent.Wait();
  ASSERT_THAT(receipt, IsOk());
  ASSERT_EQ(receipt->paths.size(), 2u);
  EXPECT_EQ(receipt->paths[0].path, "unix");
  EXPECT_THAT(receipt->paths[0].status,
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace tensorferry
