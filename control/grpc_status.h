// Internal to control/ and catalog/: absl::Status to and from grpc::Status.
#ifndef TENSORFERRY_CONTROL_GRPC_STATUS_H_
#define TENSORFERRY_CONTROL_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace tensorferry {

// Messages travel in HTTP/2 headers, which are small: what is longer than
// 2 KiB is cut. Those that must arrive whole go into a message.
grpc::Status ToGrpcStatus(const absl::Status& status);
// A code that absl does not know becomes UNKNOWN. What a terminal would act on
// is no longer in the text.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_GRPC_STATUS_H_
