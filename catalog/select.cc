#include "catalog/select.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/name_matching.h"
#include "catalog/named_tensors.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

// Whoever may pull nothing of a bundle is answered as if it were not there.
absl::StatusOr<std::vector<BundlePtr>> Bundles(
    const Catalog& catalog, const std::string& name,
    const std::vector<BundleGrant>& granted) {
  std::vector<BundlePtr> found;
  if (name.empty()) {
    found = catalog.List();
  } else {
    FERRY_ASSIGN_OR_RETURN(BundlePtr one, catalog.Get(name));
    found.push_back(std::move(one));
  }
  std::erase_if(found, [&](const BundlePtr& bundle) {
    return !PermitsSome(granted, bundle->name, bundle->contents.names);
  });
  if (!found.empty()) return found;
  return name.empty() ? absl::NotFoundError("no bundle is published here")
                      : NoSuchBundle(name);
}

void Add(const Bundle& bundle, NamedTensors chosen, Selection& selection) {
  pb::PulledBundle* row = selection.reply.add_bundles();
  row->set_name(bundle.name);
  row->set_version(bundle.version);
  row->mutable_metadata()->insert(chosen.metadata.begin(),
                                  chosen.metadata.end());
  row->set_file_header(std::move(chosen.file_header));
  row->set_tensors(static_cast<uint32_t>(chosen.names.size()));
  selection.reply.set_nbytes(selection.reply.nbytes() + ByteSize(chosen));
  for (size_t i = 0; i < chosen.names.size(); ++i) {
    selection.names.push_back(std::move(chosen.names[i]));
    selection.tensors.push_back(std::move(chosen.tensors[i]));
  }
}

}  // namespace

absl::StatusOr<Selection> Select(const Catalog& catalog,
                                 const std::string& bundle,
                                 const std::string& names,
                                 const std::vector<BundleGrant>& granted) {
  FERRY_RETURN_IF_ERROR(CheckGlob(names));
  FERRY_ASSIGN_OR_RETURN(std::vector<BundlePtr> bundles,
                         Bundles(catalog, bundle, granted));
  Selection selection;
  NameMatching matching;
  absl::flat_hash_map<std::string, absl::string_view> owners;
  for (const BundlePtr& from : bundles) {
    FERRY_RETURN_IF_ERROR(CheckUnchanged(from->contents));
    NamedTensors chosen =
        Filter(from->contents, names.empty() ? "*" : names, matching);
    FERRY_RETURN_IF_ERROR(matching.Check());
    // A bundle without tensors is worth its metadata only if it was asked for.
    if (chosen.names.empty() && bundles.size() > 1) continue;
    for (const std::string& name : chosen.names) {
      if (!Permits(granted, from->name, name)) {
        return absl::PermissionDeniedError(
            absl::StrCat("tensor \"", absl::Utf8SafeCEscape(name),
                         "\" of bundle \"", from->name, "\""));
      }
      const auto [owner, is_new] = owners.emplace(name, from->name);
      if (is_new) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("bundles \"", owner->second, "\" and \"", from->name,
                       "\" both have a tensor \"", absl::Utf8SafeCEscape(name),
                       "\": choose one of the bundles, or narrow the names"));
    }
    Add(*from, std::move(chosen), selection);
  }
  const bool asked_for_some = !names.empty() && names != "*";
  if (selection.names.empty() && asked_for_some) {
    return absl::NotFoundError(absl::StrCat(
        "no tensor of ",
        bundle.empty() ? "any bundle" : absl::StrCat("bundle \"", bundle, "\""),
        " matches \"", absl::Utf8SafeCEscape(names), "\""));
  }
  return selection;
}

}  // namespace tensorferry
