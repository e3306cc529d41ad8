#ifndef TENSORFERRY_CATALOG_WIRE_TYPES_H_
#define TENSORFERRY_CATALOG_WIRE_TYPES_H_

#include <cstdint>

#include "serialization/message.h"

namespace tensorferry {

// Types of the requests that a catalog answers on a session. Their payloads
// are messages of catalog.proto. Part of the wire format: never reuse one.
inline constexpr uint32_t kPullType = kReservedTypes + 1;
inline constexpr uint32_t kPushOfferType = kReservedTypes + 2;
inline constexpr uint32_t kPushType = kReservedTypes + 3;
inline constexpr uint32_t kEchoType = kReservedTypes + 4;

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_WIRE_TYPES_H_
