#ifndef TENSORFERRY_CATALOG_BUNDLE_PROTO_H_
#define TENSORFERRY_CATALOG_BUNDLE_PROTO_H_

#include "absl/status/statusor.h"
#include "catalog/bundle.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {

catalog::v1::Bundle ToProto(const BundleInfo& info);

// INVALID_ARGUMENT: a peer wrote what is no description of a bundle; names the
// bundle and the tensor.
absl::StatusOr<BundleInfo> FromProto(const catalog::v1::Bundle& proto);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_BUNDLE_PROTO_H_
