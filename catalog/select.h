#ifndef TENSORFERRY_CATALOG_SELECT_H_
#define TENSORFERRY_CATALOG_SELECT_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/catalog.h"
#include "control/authorizer.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {

// What a pull is answered with.
struct Selection {
  catalog::v1::PullReply reply;
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;
};

// The tensors that `names`, a glob, matches, of the bundle that is called
// `bundle`, or of all if it is empty. They keep their versions alive.
// NOT_FOUND: no such bundle, or no such tensor. INVALID_ARGUMENT: two bundles
// have a tensor of one name; CheckGlob. FAILED_PRECONDITION: CheckUnchanged.
// RESOURCE_EXHAUSTED: `names` takes too long to match.
// PERMISSION_DENIED: one of them is not among those granted; the text is which.
// Bundles of which none is granted are as if they were not there.
absl::StatusOr<Selection> Select(
    const Catalog& catalog, const std::string& bundle, const std::string& names,
    const std::vector<BundleGrant>& granted = {BundleGrant()});

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_SELECT_H_
