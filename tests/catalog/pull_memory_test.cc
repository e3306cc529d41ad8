// What a pull of 1 GiB takes of each process's memory, in two processes.
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "catalog/blocking.h"
#include "catalog/catalog.h"
#include "catalog/serve.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/child_process.h"
#include "tests/testing/memory_peak.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::ChildProcess;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::MemoryPeak;

constexpr int kTensors = 64;
constexpr int64_t kElements = 4 << 20;                             // of 4 bytes
constexpr uint64_t kPayload = uint64_t{kTensors} * kElements * 4;  // 1 GiB
constexpr absl::Duration kPatience = absl::Seconds(120);

NamedTensors Model() {
  NamedTensors model;
  for (int i = 0; i < kTensors; ++i) {
    model.names.push_back(absl::StrCat("layer.", i));
    model.tensors.push_back(at::full({kElements}, static_cast<float>(i)));
  }
  return model;
}

// The child: serves the model until its input closes, then tells how far its
// memory grew meanwhile.
int RunChild() {
  Catalog catalog;
  if (!catalog.Publish("model", Model()).ok()) return 1;
  CatalogServer server(&catalog, {});
  PeerOptions options = {.name = "server"};
  server.MountOn(options);
  auto peer = Peer::Create(std::move(options));
  if (!peer.ok()) return 1;
  (*peer)->Accept([&server](std::shared_ptr<Session> session) {
    server.Serve(std::move(session)).IgnoreError();
  });
  MemoryPeak peak;
  testing::WriteLine((*peer)->control_address());
  testing::AwaitInputClosed();
  testing::WriteLine(absl::StrCat(peak.Growth()));
  return 0;
}

class PullMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FERRY_ASSERT_OK_AND_ASSIGN(auto child, ChildProcess::Start({"--child"}));
    child_ = std::make_unique<ChildProcess>(std::move(child));
    FERRY_ASSERT_OK_AND_ASSIGN(std::string address, child_->ReadLine());
    FERRY_ASSERT_OK_AND_ASSIGN(peer_,
                               Peer::Create({.name = "client", .control = ""}));
    FERRY_ASSERT_OK_AND_ASSIGN(
        session_, blocking::Connect(*peer_, address, {}, kPatience));
  }

  void ExpectModel(const NamedTensors& pulled) {
    ASSERT_EQ(pulled.tensors.size(), size_t{kTensors});
    for (int i = 0; i < kTensors; ++i) {
      EXPECT_EQ(pulled.names[i], absl::StrCat("layer.", i));
      // Element by element without a second tensor of this size.
      const float* data = pulled.tensors[i].const_data_ptr<float>();
      for (int64_t at = 0; at < kElements; ++at) {
        ASSERT_EQ(data[at], static_cast<float>(i)) << i << ", " << at;
      }
    }
  }

  uint64_t ServerGrowth() {
    session_.reset();
    child_->CloseInput();
    auto line = child_->ReadLine();
    uint64_t growth = kPayload * 100;
    EXPECT_THAT(line, IsOk());
    if (line.ok()) {
      EXPECT_TRUE(absl::SimpleAtoi(*line, &growth)) << *line;
    }
    return growth;
  }

  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<Peer> peer_;
  std::shared_ptr<Session> session_;
};

TEST_F(PullMemoryTest, IntoNewTensorsTakesLittleMoreThanThePayload) {
  MemoryPeak peak;
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(session_, {.bundle = "model", .timeout = kPatience}));
  ExpectModel(pulled.contents);
  EXPECT_GE(peak.Growth(), kPayload);  // the measurement works
  EXPECT_LE(peak.Growth(), kPayload / 100 * 115);
  EXPECT_LE(ServerGrowth(), kPayload / 100 * 115);
}

TEST_F(PullMemoryTest, IntoTheCallersTensorsTakesHardlyMore) {
  Destination into;
  for (int i = 0; i < kTensors; ++i) {
    into.names.push_back(absl::StrCat("layer.", i));
    into.tensors.push_back(at::full({kElements}, -1.0f));
  }
  MemoryPeak peak;
  FERRY_ASSERT_OK_AND_ASSIGN(
      Pulled pulled,
      blocking::Pull(session_,
                     {.bundle = "model", .timeout = kPatience, .into = into}));
  ExpectModel(pulled.contents);
  EXPECT_EQ(pulled.contents.tensors[0].const_data_ptr(),
            into.tensors[0].const_data_ptr());
  EXPECT_LE(peak.Growth(), kPayload / 100 * 5);
  EXPECT_LE(ServerGrowth(), kPayload / 100 * 115);
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--child") == 0) {
    return tensorferry::RunChild();
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
