// Tensors of the toy device in messages.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <c10/core/TensorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "examples/toy_device/toy_device.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/testing/status_matchers.h"

namespace toy {
namespace {

using ::tensorferry::ParsePlacementRule;
using ::tensorferry::TensorMessage;

const c10::Stream kStream(c10::Stream::DEFAULT, kDevice);

// Small ones, a large one, an alias, and one on the host.
std::vector<at::Tensor> Tensors() {
  const at::Tensor small = ToDevice(at::arange(10, at::kFloat));
  return {small,
          ToDevice(at::arange(3, at::kLong)),
          small,
          ToDevice(at::arange(100'000, at::kDouble)),
          ToDevice(at::empty({0, 4})),
          at::arange(5, at::kFloat)};
}

void ExpectArrived(const std::vector<at::Tensor>& got) {
  const std::vector<at::Tensor> sent = Tensors();
  ASSERT_EQ(got.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    ASSERT_EQ(got[i].device(), sent[i].device()) << i;
    EXPECT_TRUE(ToHost(got[i]).equal(ToHost(sent[i]))) << i;
  }
  EXPECT_TRUE(got[0].is_alias_of(got[2]));
}

TEST(ToyMessageTest, IsWrittenAndReadWithoutANetwork) {
  tensorferry::SerializeOptions send;
  send.placement.rules = {
      *ParsePlacementRule("privateuseone:0=privateuseone:0")};
  send.streams = {kStream};
  FERRY_ASSERT_OK_AND_ASSIGN(tensorferry::WriteBuffers sent,
                             Serialize({.tensors = Tensors()}, send));
  FERRY_ASSERT_OK_AND_ASSIGN(tensorferry::ReadBuffers filled,
                             Allocate(sent.manifest(), {.streams = {kStream}}));
  for (size_t i = 0; i < sent.regions().size(); ++i) {
    const tensorferry::Region& from = sent.regions()[i];
    if (from.nbytes == 0) continue;
    std::memcpy(filled.regions()[i].data, from.data, from.nbytes);
  }
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got, Deserialize(std::move(filled)));
  ExpectArrived(got.tensors);
}

// The toy has no kernels: nothing of a view is copied, its span goes.
TEST(ToyMessageTest, OfAViewWithHolesTheSpanIsSent) {
  const at::Tensor whole = ToDevice(at::arange(100'000, at::kFloat));
  const at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(whole.storage()), whole.key_set(), whole.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(at::IntArrayRef({10'000}),
                                                    at::IntArrayRef({10}));
  tensorferry::SerializeOptions send;
  send.placement.rules = {
      *ParsePlacementRule("privateuseone:0=privateuseone:0")};
  send.streams = {kStream};
  FERRY_ASSERT_OK_AND_ASSIGN(tensorferry::WriteBuffers sent,
                             Serialize({.tensors = {view}}, send));
  EXPECT_EQ(static_cast<void*>(sent.regions()[0].data), whole.data_ptr());
  EXPECT_EQ(sent.regions()[0].nbytes, (9'999 * 10 + 1) * sizeof(float));
}

}  // namespace
}  // namespace toy
