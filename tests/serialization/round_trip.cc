#include "tests/serialization/round_trip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "serialization/deserialize.h"

namespace tensorferry {
namespace testing {

void CarryRegions(const WriteBuffers& from, const ReadBuffers& to) {
  ASSERT_EQ(from.regions().size(), to.regions().size());
  for (size_t i = 0; i < from.regions().size(); ++i) {
    const Region& source = from.regions()[i];
    const Region& target = to.regions()[i];
    ASSERT_EQ(source.nbytes, target.nbytes);
    if (source.nbytes == 0) continue;
    ASSERT_TRUE(source.device().is_cpu() && target.device().is_cpu());
    std::memcpy(target.data, source.data, source.nbytes);
  }
}

absl::StatusOr<TensorMessage> RoundTrip(TensorMessage message,
                                        const SerializeOptions& send,
                                        const AllocateOptions& receive) {
  FERRY_ASSIGN_OR_RETURN(WriteBuffers sent,
                         Serialize(std::move(message), send));
  FERRY_ASSIGN_OR_RETURN(
      Manifest manifest,
      DecodeManifest(EncodeManifest(sent.manifest()), receive.limits));
  FERRY_ASSIGN_OR_RETURN(ReadBuffers received,
                         Allocate(std::move(manifest), receive));
  CarryRegions(sent, received);
  return Deserialize(std::move(received));
}

TensorMessage MessageOf(std::vector<at::Tensor> tensors) {
  TensorMessage message;
  message.tensors = std::move(tensors);
  return message;
}

TensorMessage NamedMessageOf(std::vector<at::Tensor> tensors) {
  TensorMessage message = MessageOf(std::move(tensors));
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    message.names.push_back(absl::StrCat("a", i));
  }
  return message;
}

}  // namespace testing
}  // namespace tensorferry
