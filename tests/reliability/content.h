#ifndef TENSORFERRY_TESTS_RELIABILITY_CONTENT_H_
#define TENSORFERRY_TESTS_RELIABILITY_CONTENT_H_

#include <cstdint>

#include "serialization/message.h"

namespace tensorferry {
namespace testing {

// A message whose tensor of `nbytes` (a multiple of 4) is different for each
// seed. The payload is a digest of it, made apart from those that tensorferry
// makes itself.
TensorMessage MakeContent(uint32_t type, int64_t id, int64_t nbytes, int seed);

// Whether the tensor is what the payload says.
bool IsIntact(const TensorMessage& message);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_CONTENT_H_
