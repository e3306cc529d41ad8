#ifndef TENSORFERRY_CLI_RECEIPT_H_
#define TENSORFERRY_CLI_RECEIPT_H_

#include <string>
#include <vector>

#include "catalog/pull.h"
#include "cli/output.h"

namespace tensorferry::cli {

// Says what a pull or push moved: to people a few lines, to --json the keys
// "bytes", "seconds", "tensors", "path" (the one that carried most), "paths",
// "version" (null if the tensors are of several bundles), "bundles", "digest".
// The helps of pull and push say what bytes, seconds and digest cover.
void ShowReceipt(const Receipt& receipt,
                 const std::vector<BundleVersion>& bundles, Output& output);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_RECEIPT_H_
