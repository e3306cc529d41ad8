#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "catalog/blocking.h"
#include "catalog/catalog_client.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/security_flags.h"
#include "cli/values.h"

namespace tensorferry::cli {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);

bool IsGlob(const std::string& text) {
  return text.find_first_of("*?") != std::string::npos;
}

Json ToJson(const TensorInfo& tensor) {
  return {{"name", tensor.name},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"device", ToString(tensor.device)},
          {"bytes", tensor.nbytes}};
}

Json ToJson(const BundleInfo& bundle) {
  Json json = {{"name", bundle.name},
               {"version", bundle.version},
               {"bytes", bundle.nbytes},
               {"metadata", bundle.metadata}};
  json["tensors"] = Json::array();
  for (const TensorInfo& tensor : bundle.tensors) {
    json["tensors"].push_back(ToJson(tensor));
  }
  return json;
}

std::string ToText(const BundleInfo& bundle) {
  std::string text = absl::StrFormat(
      "%s   version %d   %d tensors   %s\n", OneLine(bundle.name),
      bundle.version, bundle.tensors.size(), ShowBytes(bundle.nbytes));
  for (const TensorInfo& tensor : bundle.tensors) {
    absl::StrAppendFormat(
        &text, "  %-8s %-10s %-16s %s\n", ToString(tensor.device),
        OneLine(tensor.dtype),
        absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "]"),
        OneLine(tensor.name));
  }
  return Printable(text);
}

absl::Status List(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(auto client,
                         CatalogClient::Create(arguments.positional(0),
                                               ClientSecurityOf(arguments)));
  const ListFilter filter = {.bundle = arguments.Get("bundle", "*"),
                             .names = arguments.Get("names", "*")};
  FERRY_ASSIGN_OR_RETURN(std::vector<BundleInfo> bundles,
                         blocking::ListBundles(*client, filter, kTimeout));
  output.json()["bundles"] = Json::array();
  for (const BundleInfo& bundle : bundles) {
    output.json()["bundles"].push_back(ToJson(bundle));
    output.Print(ToText(bundle));
  }
  if (bundles.empty() && arguments.Has("bundle") && !IsGlob(filter.bundle)) {
    return absl::NotFoundError(absl::StrCat("no bundle \"", filter.bundle,
                                            "\" is published at ",
                                            arguments.positional(0)));
  }
  return absl::OkStatus();
}

}  // namespace

Command ListCommand() {
  return {
      "list",
      "Lists the bundles that a peer has to give.",
      {"ADDRESS"},
      {{"bundle", "NAME", "Only this bundle; '*' and '?' stand for others."},
       {"names", "GLOB", kNamesHelp}},
      "A bundle is a named set of named tensors; its version is one more each "
      "time it\nis published. ADDRESS is the peer's control address, as "
      "`serve` "
      "wrote it into\nits --ready_file.\n\n"
      "  tensorferry list 127.0.0.1:4750\n"
      "  tensorferry list 127.0.0.1:4750 --bundle model --names 'encoder.*' "
      "--json\n",
      List};
}

}  // namespace tensorferry::cli
