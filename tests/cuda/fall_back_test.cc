// Tensors of devices over the second wire, when the first one cannot be
// reached.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/executor.h"
#include "cuda/channels.h"
#include "tests/cuda/child_end.h"
#include "tests/cuda/ended.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/cuda/ways.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "transfer/endpoint.h"

namespace tensorferry {
namespace {

using ::c10::cuda::getStreamFromPool;
using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::tensorferry::testing::Way;
using ::tensorferry::testing::WriteLine;
using ::testing::ElementsAre;
using ::testing::Field;

constexpr char kCallee[] = "--callee";

// The way is the first one; over TCP there is cuda_basic only, or basic through
// host memory.
TransferRules RulesOf(const Way& way, bool sends) {
  TransferRules rules;
  rules.session_id = "session-1";
  rules.plan_digest = "plan-1";
  rules.outgoing.rules = {*ParsePlacementRule(way.there)};
  rules.incoming = rules.outgoing;
  rules.paths = {way.path(), "unix/basic", "tcp/cuda_basic", "tcp/basic"};
  if (way.goes_through_host()) {
    rules.paths = {way.path(), "unix/basic", "tcp/basic"};
    const PlacementRule& rule = rules.outgoing.rules[0];
    rules.through_host = {sends ? std::pair(rule.source, rule.target)
                                : std::pair(rule.target, rule.source)};
  }
  for (int device = 0; device < testing::GpuCount(); ++device) {
    rules.send_streams.push_back(
        getStreamFromPool(false, static_cast<c10::DeviceIndex>(device)));
  }
  rules.receive_streams = rules.send_streams;
  return rules;
}

// Receives one message.
class Callee {
 public:
  explicit Callee(const Way& way) {
    endpoint_ = *Endpoint::Create({.executor = &executor_});
    expected_ = *endpoint_->Expect(
        RulesOf(way, /*sends=*/false), [](absl::Status) {}, nullptr);
    expected_.link->Receive({}, received_.Callback());
  }

  // "OK 3 over unix, tcp/cuda_basic": a tensor that begins with 3.
  std::string Result() {
    const absl::StatusOr<Received>& received = received_.Wait();
    if (!received.ok()) return received.status().ToString();
    const at::Tensor host = received->message.tensors[0].cpu();
    const auto path_of = [](std::string* out, const PathUse& use) {
      out->append(use.path);
    };
    return absl::StrCat("OK ", *host.const_data_ptr<float>(), " over ",
                        absl::StrJoin(received->receipt.paths, ", ", path_of));
  }
  const std::vector<std::string>& addresses() const {
    return expected_.addresses;
  }
  const std::string& key() const { return expected_.key; }

 private:
  ThreadPool executor_{1};
  std::unique_ptr<Endpoint> endpoint_;
  Endpoint::Expected expected_;
  Ended<Received> received_;
};

// The other process.
int RunCallee(const Way& way) {
  Callee callee(way);
  WriteLine(callee.addresses().at(1));
  WriteLine(absl::BytesToHexString(callee.key()));
  WriteLine(callee.Result());
  tensorferry::testing::AwaitInputClosed();
  return 0;
}

class FallBackTest : public testing::GpuTest,
                     public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (GetParam().needs_two()) testing::SkipUnlessThereAreTwoGpus();
    if (IsSkipped()) return;
    if (GetParam().processes == 1) {
      callee_.emplace(GetParam());
      address_ = callee_->addresses().at(1);
      key_ = callee_->key();
      return;
    }
    FERRY_ASSERT_OK_AND_ASSIGN(
        ChildProcess child,
        ChildProcess::Start({kCallee, GetParam().channel, GetParam().there}));
    child_.emplace(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(address_, child_->ReadLine());
    FERRY_ASSERT_OK_AND_ASSIGN(const std::string key, child_->ReadLine());
    key_ = absl::HexStringToBytes(key);
  }
  void TearDown() override {
    callee_.reset();
    if (child_) {
      child_->CloseInput();
      EXPECT_EQ(child_->Wait(), 0);
    }
    CloseCudaChannelsForTesting();
    GpuTest::TearDown();
  }

  std::string ResultThere() {
    return callee_ ? callee_->Result() : child_->ReadLine().value_or("gone");
  }

  std::optional<Callee> callee_;
  std::optional<ChildProcess> child_;
  std::string address_, key_;  // of the second wire
};

TEST_P(FallBackTest, OverTheNextWireGpusHaveTheChannelsOfThatOne) {
  ThreadPool executor(1);
  FERRY_ASSERT_OK_AND_ASSIGN(std::unique_ptr<Endpoint> caller,
                             Endpoint::Create({.executor = &executor}));
  Ended<std::shared_ptr<Link>> dialed;
  caller->Dial({"unix://@tensorferry-nobody", address_}, key_,
               RulesOf(GetParam(), /*sends=*/true), absl::Seconds(10), nullptr,
               dialed.Callback());
  ASSERT_THAT(dialed.Wait(), IsOk());
  Ended<Receipt> sent;
  (*dialed.Wait())
      ->Send({.tensors = {at::full({1'000'000}, 3,
                                   at::TensorOptions()
                                       .dtype(at::kFloat)
                                       .device(GetParam().source()))}},
             {}, {}, sent.Callback());
  const std::string path =
      GetParam().goes_through_host() ? "tcp/basic" : "tcp/cuda_basic";
  EXPECT_EQ(ResultThere(), "OK 3 over unix, " + path);
  ASSERT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(sent.Wait()->paths, ElementsAre(Field(&PathUse::path, "unix"),
                                              Field(&PathUse::path, path)));
  EXPECT_THAT(sent.Wait()->paths[0].status,
              StatusIs(absl::StatusCode::kUnavailable));
}

INSTANTIATE_TEST_SUITE_P(InOneProcess, FallBackTest,
                         ::testing::ValuesIn(testing::WaysInOneProcess()),
                         testing::NameOf);
INSTANTIATE_TEST_SUITE_P(InTwoProcesses, FallBackTest,
                         ::testing::ValuesIn(testing::WaysInTwoProcesses()),
                         testing::NameOf);

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() == 3 && args[0] == tensorferry::kCallee) {
    return tensorferry::testing::EndChild(
        tensorferry::RunCallee({args[1], args[2]}));
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
