#ifndef TENSORFERRY_CATALOG_GRPC_LIMITS_H_
#define TENSORFERRY_CATALOG_GRPC_LIMITS_H_

#include <cstddef>

namespace tensorferry {

// The longest list of bundles that a catalog sends and a client takes: some
// 500,000 tensors.
inline constexpr size_t kMaxListBytes = size_t{64} << 20;
// Of lists that their callers have not taken yet.
inline constexpr size_t kMaxListBytesNotTaken = size_t{128} << 20;
// What protobuf adds to a bundle in a list, at most.
inline constexpr size_t kListRowOverhead = 16;

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_GRPC_LIMITS_H_
