// Two real processes: this test and a child that answers it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/synchronization/notification.h"
#include "channel/local_channel.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tensor_matrix.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::Difference;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr uint32_t kEcho = 1;   // replies with what came
constexpr uint32_t kWrite = 2;  // writes 42 through the first, replies with all
constexpr uint32_t kPath = 3;   // echoes; the payload says how it came
constexpr int64_t kLargeBytes = 1 << 20;

// What carried a message's large tensor.
std::string PathOf(const Receipt& receipt) {
  for (const PathUse& use : receipt.paths) {
    if (use.bytes >= kLargeBytes) return use.path;
  }
  return "none";
}

void ServeCall(Session& session, Received call) {
  if (call.message.type == kWrite) call.message.tensors.at(0).fill_(42);
  TensorMessage reply{.tensors = std::move(call.message.tensors),
                      .names = std::move(call.message.names)};
  if (call.message.type == kPath) reply.payload = PathOf(call.receipt);
  session.Reply(call.envelope, std::move(reply), {}, nullptr);
}

std::optional<uint64_t> PoolBytes(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return std::stoull(text);
}

// The child: serves at `control` until its standard input closes.
int RunChild(const std::string& control, const std::string& pool_bytes) {
  auto peer = Peer::Create({.name = "child",
                            .control = control,
                            .pool_bytes = PoolBytes(pool_bytes)});
  if (!peer.ok()) {
    testing::WriteLine(peer.status().ToString());
    return 1;
  }
  (*peer)->Accept([](std::shared_ptr<Session> session) {
    for (uint32_t type : {kEcho, kWrite, kPath}) {
      if (!session->Handle(type, ServeCall).ok()) return;
    }
    session->OnEnd([session](SessionReport) {});
  });
  testing::WriteLine((*peer)->control_address());
  testing::AwaitInputClosed();
  return 0;
}

class WithChild : public ::testing::Test {
 protected:
  // `pool_bytes`: of both.
  void Start(const std::string& pool_bytes = "") {
    FERRY_ASSERT_OK_AND_ASSIGN(
        auto child,
        ChildProcess::Start({"--child", "127.0.0.1:0", pool_bytes}));
    child_ = std::make_unique<ChildProcess>(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(address_, child_->ReadLine());
    FERRY_ASSERT_OK_AND_ASSIGN(
        peer_, Peer::Create({.name = "parent",
                             .control = "",
                             .pool_bytes = PoolBytes(pool_bytes)}));
  }

  absl::StatusOr<std::shared_ptr<Session>> Connect(Offer offer = {}) {
    return blocking::Connect(*peer_, address_, std::move(offer), kPatience);
  }

  std::unique_ptr<ChildProcess> child_;
  std::string address_;
  std::unique_ptr<Peer> peer_;
};

class TwoProcessTest : public WithChild,
                       public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override { Start(); }
};

TEST_P(TwoProcessTest, EveryKindOfTensorComesBackAsItWas) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect({.paths = {GetParam()}}));
  for (const testing::MatrixCase& one : testing::TensorMatrix()) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        Received reply,
        blocking::Call(*session, {.type = kEcho, .tensors = one.tensors}));
    ASSERT_EQ(reply.message.tensors.size(), one.tensors.size()) << one.name;
    for (size_t i = 0; i < one.tensors.size(); ++i) {
      EXPECT_EQ(Difference(one.tensors[i], reply.message.tensors[i]), "")
          << one.name << ", tensor " << i;
    }
    EXPECT_EQ(testing::Aliasing(reply.message.tensors),
              testing::Aliasing(one.tensors))
        << one.name;
  }
}

TEST_P(TwoProcessTest, TheWholeMatrixFitsIntoOneMessage) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect({.paths = {GetParam()}}));
  std::vector<at::Tensor> all;
  for (const testing::MatrixCase& one : testing::TensorMatrix()) {
    all.insert(all.end(), one.tensors.begin(), one.tensors.end());
  }
  FERRY_ASSERT_OK_AND_ASSIGN(
      Received reply,
      blocking::Call(*session, {.type = kEcho, .tensors = all}));
  ASSERT_EQ(reply.message.tensors.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(Difference(all[i], reply.message.tensors[i]), "") << i;
  }
  EXPECT_EQ(testing::Aliasing(reply.message.tensors), testing::Aliasing(all));
}

TEST_P(TwoProcessTest, WritingThroughOneTensorShowsInItsAliasOverThere) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect({.paths = {GetParam()}}));
  at::Tensor base = at::arange(10000, at::kFloat);
  FERRY_ASSERT_OK_AND_ASSIGN(
      Received reply,
      blocking::Call(*session, {.type = kWrite,
                                .tensors = {base.slice(0, 0, 6000),
                                            base.slice(0, 4000, 10000),
                                            at::arange(10, at::kFloat)}}));
  // The child wrote 42 to the first only.
  const at::Tensor& second = reply.message.tensors.at(1);
  EXPECT_TRUE(at::equal(second.slice(0, 0, 2000), at::full({2000}, 42.0f)));
  EXPECT_TRUE(at::equal(second.slice(0, 2000, 6000),
                        at::arange(6000, 10000, at::kFloat)));
  EXPECT_TRUE(
      at::equal(reply.message.tensors.at(2), at::arange(10, at::kFloat)));
}

TEST_P(TwoProcessTest, CarriesAMessageLargerThanOneStep) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect({.paths = {GetParam()}}));
  at::Tensor large = at::arange(30'000'000, at::kInt);  // 120 MB
  FERRY_ASSERT_OK_AND_ASSIGN(
      Received reply,
      blocking::Call(*session, {.type = kEcho, .tensors = {large}}));
  EXPECT_TRUE(at::equal(reply.message.tensors.at(0), large));
  ASSERT_FALSE(reply.receipt.paths.empty());
  EXPECT_THAT(reply.receipt.paths[0].path, StartsWith(GetParam()));
}

TEST_P(TwoProcessTest, AKilledPeerIsUnavailableAndItsSuccessorIsAnother) {
  FERRY_ASSERT_OK_AND_ASSIGN(auto session, Connect({.paths = {GetParam()}}));
  const uint64_t old_epoch = session->remote().epoch;
  absl::Notification ended;
  absl::Status why;
  session->OnEnd([&](SessionReport report) {
    why = report.why;
    ended.Notify();
  });
  absl::Notification call_ended;
  session->Call({.type = 99}, {.timeout = kPatience},  // nobody answers it
                [&](absl::StatusOr<Received> reply) {
                  EXPECT_THAT(reply, StatusIs(absl::StatusCode::kUnavailable));
                  call_ended.Notify();
                });
  child_->Signal(SIGKILL);
  EXPECT_EQ(child_->Wait(), 128 + SIGKILL);
  ended.WaitForNotification();
  call_ended.WaitForNotification();
  EXPECT_THAT(why,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("child")));

  FERRY_ASSERT_OK_AND_ASSIGN(auto successor,
                             ChildProcess::Start({"--child", address_, ""}));
  FERRY_ASSERT_OK_AND_ASSIGN(std::string address, successor.ReadLine());
  ASSERT_EQ(address, address_);
  Offer offer;
  offer.expected_epoch = old_epoch;
  EXPECT_THAT(Connect(offer), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("epoch")));
  FERRY_ASSERT_OK_AND_ASSIGN(auto again, Connect());
  EXPECT_THAT(blocking::Call(*again, {.type = kEcho}), IsOk());
}

// What carries a large tensor between two processes of one user.
class LocalPathTest : public WithChild {
 protected:
  void ExpectPath(const std::string& there, const std::string& back,
                  CallOptions options = {}) {
    FERRY_ASSERT_OK_AND_ASSIGN(auto session,
                               Connect({.paths = {"unix/local"}}));
    const at::Tensor tensor = at::arange(kLargeBytes / 4, at::kInt);
    FERRY_ASSERT_OK_AND_ASSIGN(
        Received reply,
        blocking::Call(*session,
                       {.type = kPath, .tensors = {tensor}, .names = {"large"}},
                       std::move(options)));
    EXPECT_TRUE(at::equal(reply.message.tensors.at(0), tensor));
    EXPECT_EQ(reply.message.payload, there);
    EXPECT_EQ(PathOf(reply.receipt), back);
  }

  const std::string pool_ = "unix/local/pool";
  // Where the system refuses to read a process's memory there is another way.
  const std::string no_pool_ =
      WhyUnreadable().empty() ? "unix/local/vm" : "unix/local/stream";
};

TEST_F(LocalPathTest, TheSenderCopiesIntoTheReceiversPool) {
  Start();
  ExpectPath(pool_, pool_);
}

TEST_F(LocalPathTest, NotIntoTensorsThatTheUserMade) {
  Start();
  CallOptions options;
  options.into.tensors = {at::full({kLargeBytes / 4}, 0, at::kInt)};
  options.into.names = {"large"};
  ExpectPath(pool_, no_pool_, std::move(options));
}

TEST_F(LocalPathTest, NotWithoutAPool) {
  Start(/*pool_bytes=*/"0");
  ExpectPath(no_pool_, no_pool_);
}

TEST_F(LocalPathTest, NotBeyondThePoolsLimit) {
  Start(/*pool_bytes=*/"1000000");
  ExpectPath(no_pool_, no_pool_);
}

INSTANTIATE_TEST_SUITE_P(Paths, TwoProcessTest,
                         ::testing::Values("unix/local", "unix/basic",
                                           "tcp/basic", "tls/basic"),
                         [](const auto& info) {
                           return absl::StrReplaceAll(info.param, {{"/", "_"}});
                         });

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--child") == 0) {
    return tensorferry::RunChild(argv[2], argv[3]);
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
