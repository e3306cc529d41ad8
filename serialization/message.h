#ifndef TENSORFERRY_SERIALIZATION_MESSAGE_H_
#define TENSORFERRY_SERIALIZATION_MESSAGE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tensorferry {

// What users send: bytes and tensors that arrive together. Tensors may share
// storages; they share them again on arrival.
struct TensorMessage {
  uint32_t type = 0;    // the user's; from kReservedTypes on ours
  int64_t id = 0;       // the user's; carried, not interpreted
  std::string payload;  // any bytes
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names;  // empty, or one for each tensor, unique
};

// Message types from here on belong to tensorferry itself (catalog requests).
inline constexpr uint32_t kReservedTypes = 0x80000000;

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_MESSAGE_H_
