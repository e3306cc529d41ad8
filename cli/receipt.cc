#include "cli/receipt.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/values.h"

namespace tensorferry::cli {
namespace {

std::string MainPath(const Receipt& receipt) {
  const auto most = std::max_element(
      receipt.paths.begin(), receipt.paths.end(),
      [](const PathUse& a, const PathUse& b) { return a.bytes < b.bytes; });
  return most == receipt.paths.end() ? "" : most->path;
}

void FillJson(const Receipt& receipt, const std::vector<BundleVersion>& bundles,
              Json& json) {
  json["bytes"] = receipt.bytes;
  json["bytes_through_host"] = receipt.bytes_through_host;
  json["seconds"] = absl::ToDoubleSeconds(receipt.time);
  json["tensors"] = receipt.tensors;
  json["path"] = MainPath(receipt);
  json["paths"] = Json::array();
  for (const PathUse& use : receipt.paths) {
    json["paths"].push_back(
        {{"path", use.path},
         {"bytes", use.bytes},
         {"status", absl::StatusCodeToString(use.status.code())}});
  }
  json["version"] = bundles.size() == 1 ? Json(bundles[0].version) : Json();
  json["bundles"] = Json::array();
  for (const BundleVersion& bundle : bundles) {
    json["bundles"].push_back(
        {{"name", bundle.name}, {"version", bundle.version}});
  }
  json["digest"] = receipt.digest;
}

}  // namespace

void ShowReceipt(const Receipt& receipt,
                 const std::vector<BundleVersion>& bundles, Output& output) {
  FillJson(receipt, bundles, output.json());
  const std::string names = absl::StrJoin(
      bundles, ", ", [](std::string* text, const BundleVersion& bundle) {
        absl::StrAppend(text, OneLine(bundle.name), " version ",
                        bundle.version);
      });
  const std::string paths = absl::StrJoin(
      receipt.paths, ", ", [](std::string* text, const PathUse& use) {
        absl::StrAppend(text, OneLine(use.path), " ", ShowBytes(use.bytes));
      });
  output.Print(Printable(absl::StrCat(
      "bundle    ", names, "\n", "tensors   ", receipt.tensors, "\n",
      "bytes     ", receipt.bytes, " (", ShowBytes(receipt.bytes), ")\n",
      "time      ", ShowTime(receipt.time), " (",
      ShowRate(receipt.bytes, receipt.time), ")\n", "path      ", paths, "\n",
      "digest    ", receipt.digest.empty() ? "off" : OneLine(receipt.digest),
      "\n")));
}

}  // namespace tensorferry::cli
