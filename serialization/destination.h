#ifndef TENSORFERRY_SERIALIZATION_DESTINATION_H_
#define TENSORFERRY_SERIALIZATION_DESTINATION_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace tensorferry {

// The caller's own tensors to receive into, by name. Empty: memory is
// allocated. Otherwise every name must be in the message; tensors of the
// message that are not named here are allocated.
struct Destination {
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names;  // one for each tensor, unique

  bool empty() const { return tensors.empty(); }
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_DESTINATION_H_
