#ifndef TENSORFERRY_TESTS_SERIALIZATION_ROUND_TRIP_H_
#define TENSORFERRY_TESTS_SERIALIZATION_ROUND_TRIP_H_

#include "absl/status/statusor.h"
#include "serialization/allocate.h"
#include "serialization/buffers.h"
#include "serialization/message.h"
#include "serialization/serialize.h"

namespace tensorferry {
namespace testing {

// What the transport does: the bytes of each region, to the same region of
// the other side. Both must be on the CPU.
void CarryRegions(const WriteBuffers& from, const ReadBuffers& to);

// A message's whole way through this room, the manifest as bytes in between.
absl::StatusOr<TensorMessage> RoundTrip(TensorMessage message,
                                        const SerializeOptions& send = {},
                                        const AllocateOptions& receive = {});

// A message of `tensors` without names.
TensorMessage MessageOf(std::vector<at::Tensor> tensors);

// Named a0, a1, ...
TensorMessage NamedMessageOf(std::vector<at::Tensor> tensors);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SERIALIZATION_ROUND_TRIP_H_
