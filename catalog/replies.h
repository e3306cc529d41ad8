// Internal to catalog/: what peers answer, as those who asked take it. Each is
// INVALID_ARGUMENT if it is not what it should be; RESOURCE_EXHAUSTED: it has
// more fields than catalog/payload.h parses.
#ifndef TENSORFERRY_CATALOG_REPLIES_H_
#define TENSORFERRY_CATALOG_REPLIES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "catalog/bundle.h"
#include "catalog/named_tensors.h"
#include "serialization/message.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {

absl::StatusOr<std::vector<BundleInfo>> ReadList(
    const catalog::v1::ListBundlesResponse& response);

absl::StatusOr<catalog::v1::PullReply> ParsePullReply(
    const std::string& payload);
// The tensors of `message`, which came with `reply` to one who asked for
// `bundle` (empty: all) and for names that `names` matches, a glob.
absl::StatusOr<NamedTensors> ReadPulled(const catalog::v1::PullReply& reply,
                                        TensorMessage message,
                                        absl::string_view bundle,
                                        absl::string_view names);

// Of tensors that were sent: with a version.
absl::StatusOr<catalog::v1::PushReply> ParsePushReply(
    const std::string& payload);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_REPLIES_H_
