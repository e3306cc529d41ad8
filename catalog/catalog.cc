#include "catalog/catalog.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/placement.h"
#include "base/status_macros.h"
#include "catalog/copy_tensors.h"

namespace tensorferry {

absl::Status NoSuchBundle(absl::string_view name) {
  return absl::NotFoundError(
      absl::StrCat("no bundle \"", name, "\" is published here"));
}

absl::StatusOr<uint64_t> Catalog::Publish(const std::string& name,
                                          NamedTensors contents,
                                          Ownership ownership) {
  FERRY_RETURN_IF_ERROR(CheckBundleName(name));
  FERRY_RETURN_IF_ERROR(CheckNamed(contents));
  if (ownership == Ownership::kCopy) {
    FERRY_ASSIGN_OR_RETURN(contents.tensors,
                           CopyTensors(std::move(contents.tensors)));
  }
  auto bundle = std::make_shared<Bundle>();
  bundle->name = name;
  bundle->contents = std::move(contents);
  BundlePtr replaced;  // destroyed, maybe at length, after the lock is gone
  absl::MutexLock lock(&mu_);
  if (versions_.size() >= max_entries_ && versions_.count(name) == 0) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the catalog has ", versions_.size(),
        " bundles, its limit (catalog_entries): \"", name, "\" is one more"));
  }
  bundle->version = ++versions_[name];
  const uint64_t version = bundle->version;
  replaced = std::exchange(newest_[name], std::move(bundle));
  return version;
}

absl::StatusOr<BundlePtr> Catalog::Get(absl::string_view name,
                                       std::optional<uint64_t> version) const {
  absl::MutexLock lock(&mu_);
  const auto found = newest_.find(name);
  if (found == newest_.end()) return NoSuchBundle(name);
  if (version.has_value() && *version != found->second->version) {
    return absl::NotFoundError(
        absl::StrCat("bundle \"", name, "\" is at version ",
                     found->second->version, ", not at ", *version));
  }
  return found->second;
}

std::vector<BundlePtr> Catalog::List(absl::string_view glob) const {
  std::vector<BundlePtr> bundles;
  absl::MutexLock lock(&mu_);
  for (const auto& [name, bundle] : newest_) {
    if (GlobMatches(glob, name)) bundles.push_back(bundle);
  }
  return bundles;
}

absl::Status Catalog::Withdraw(absl::string_view name) {
  BundlePtr withdrawn;
  absl::MutexLock lock(&mu_);
  const auto found = newest_.find(name);
  if (found == newest_.end()) return NoSuchBundle(name);
  withdrawn = std::move(found->second);
  newest_.erase(found);
  return absl::OkStatus();
}

}  // namespace tensorferry
