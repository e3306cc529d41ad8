// Sessions while the devices work in an order that a seed draws. It is that of
// the devices only: threads have their own, so that a seed that fails once is
// not sure to fail again.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "session/session.h"
#include "tests/cuda/device_copies.h"
#include "tests/cuda/device_pair.h"
#include "tests/cuda/ended.h"
#include "tests/software_gpu/software_gpu.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::c10::cuda::CUDAStream;
using ::c10::cuda::getStreamFromPool;
using ::tensorferry::software_gpu::Schedule;
using ::tensorferry::testing::CopiedTo;
using ::tensorferry::testing::DevicePairTest;
using ::tensorferry::testing::Ended;
using ::tensorferry::testing::IsOk;
using ::testing::IsEmpty;

constexpr uint64_t kSeeds = 20;
constexpr int kAtOnce = 2;  // messages

// Where what lies on cuda:0, on cuda:1 and on the host goes, over one channel.
struct Mix {
  std::string channel;
  std::array<std::string, 3> to;
};

class SessionScheduleTest : public DevicePairTest,
                            public ::testing::WithParamInterface<Mix> {
 protected:
  void SetUp() override {
    DevicePairTest::SetUp();
    const auto& to = GetParam().to;
    Open(GetParam().channel,
         {absl::StrCat("cuda:0=", to[0]), absl::StrCat("cuda:1=", to[1]),
          absl::StrCat("cpu=", to[2])});
  }

  // From each place a tensor of several chunks and a small one, which is
  // packed. The values count up from `first`.
  static std::vector<at::Tensor> FromEachPlace(float first, CUDAStream on_0,
                                               CUDAStream on_1) {
    std::vector<at::Tensor> tensors;
    for (const int64_t floats : {kFloats, int64_t{10}}) {
      tensors.push_back(Made(on_0, first++, floats));
      tensors.push_back(Made(on_1, first++, floats));
      tensors.push_back(at::full({floats}, first++, at::kFloat));
    }
    return tensors;
  }

  // What came is where it should be and has the values of FromEachPlace.
  static void ExpectFromEachPlace(float first,
                                  const std::vector<at::Tensor>& came) {
    FERRY_ASSERT_OK_AND_ASSIGN(const std::vector<at::Tensor> host,
                               CopiedTo(at::kCPU, came));
    for (size_t i = 0; i < came.size(); ++i) {
      EXPECT_EQ(came[i].device(), c10::Device(GetParam().to[i % 3])) << i;
      EXPECT_TRUE(host[i].eq(first + i).all().item<bool>()) << i;
    }
  }

  // Messages that are under way at once; whoever sent one overwrites it as soon
  // as he may.
  void CarrySeveral() {
    std::array<Ended<Receipt>, kAtOnce> sent;
    std::array<Ended<Received>, kAtOnce> received;
    std::array<std::vector<at::Tensor>, kAtOnce> tensors;
    for (int i = 0; i < kAtOnce; ++i) {
      const CUDAStream on_0 = getStreamFromPool(false, 0);
      const CUDAStream on_1 = getStreamFromPool(false, 1);
      tensors[i] = FromEachPlace(100.0f * i, on_0, on_1);
      receiver().Receive({}, received[i].Callback());
      sender().Send({.tensors = tensors[i]}, {.ready_on = {on_0, on_1}},
                    sent[i].Callback());
    }
    for (int i = 0; i < kAtOnce; ++i) {
      ASSERT_THAT(sent[i].Wait(), IsOk());
      for (at::Tensor& tensor : tensors[i]) {
        if (tensor.is_cpu()) {
          tensor.fill_(-1);
        } else {
          Fill(tensor, -1, getStreamFromPool(false, tensor.device().index()));
        }
      }
    }
    for (int i = 0; i < kAtOnce; ++i) {
      ASSERT_THAT(received[i].Wait(), IsOk());
      ExpectFromEachPlace(100.0f * i, received[i].Wait()->message.tensors);
    }
  }
};

TEST_P(SessionScheduleTest, AnyOrderOfTheDevicesWorkWillDo) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    software_gpu::SetSchedule({.order = Schedule::Order::kRandom,
                               .seed = seed,
                               .unready_answers = static_cast<int>(seed % 3)});
    CarrySeveral();
    EXPECT_THAT(software_gpu::TakeFindings(), IsEmpty());
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Channels, SessionScheduleTest,
    ::testing::Values(Mix{"cuda_xth", {"cuda:1", "cuda:0", "cpu"}},
                      Mix{"cuda_basic", {"cuda:1", "cpu", "cuda:0"}},
                      Mix{"local", {"cuda:1", "cpu", "cuda:0"}}),
    [](const auto& info) { return info.param.channel; });

}  // namespace
}  // namespace tensorferry
