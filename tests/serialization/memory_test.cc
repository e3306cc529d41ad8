#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/memory_peak.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using testing::MemoryPeak;
using testing::NamedMessageOf;

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kTotal = 256 * kMiB;

std::vector<at::Tensor> Tensors() {
  std::vector<at::Tensor> tensors = {at::empty({kTotal / 2}, at::kByte)};
  for (int i = 0; i < 128; ++i) tensors.push_back(at::empty({kMiB}, at::kByte));
  return tensors;
}

// Stands for the transport: touches every page that the message was given.
void Fill(const ReadBuffers& buffers) {
  for (const Region& region : buffers.regions()) {
    std::memset(region.data, 1, region.nbytes);
  }
}

TEST(MemoryTest, AReceivedMessageTakesLittleMoreThanItsBytes) {
  // The sender's memory is never touched, so only the receiver's counts.
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(NamedMessageOf(Tensors()), {}));
  MemoryPeak peak;
  FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers received,
                             Allocate(sent.manifest(), {}));
  Fill(received);
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage message,
                             Deserialize(std::move(received)));
  EXPECT_EQ(message.tensors.size(), 129u);
  EXPECT_GE(testing::OwnMemory(), static_cast<uint64_t>(kTotal));
  EXPECT_LE(peak.Growth(), static_cast<uint64_t>(kTotal) * 105 / 100);
}

TEST(MemoryTest, TheCallersOwnTensorsNeedNoMoreMemory) {
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(NamedMessageOf(Tensors()), {}));
  AllocateOptions options;
  options.into.tensors = Tensors();
  options.into.names = NamedMessageOf(Tensors()).names;
  for (at::Tensor& tensor : options.into.tensors) tensor.zero_();
  MemoryPeak peak;
  FERRY_ASSERT_OK_AND_ASSIGN(ReadBuffers received,
                             Allocate(sent.manifest(), options));
  Fill(received);
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage message,
                             Deserialize(std::move(received)));
  EXPECT_EQ(message.tensors[7].data_ptr(), options.into.tensors[7].data_ptr());
  EXPECT_LE(peak.Growth(), static_cast<uint64_t>(kTotal) * 5 / 100);
}

}  // namespace
}  // namespace tensorferry
