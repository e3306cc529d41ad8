#ifndef TENSORFERRY_CATALOG_CATALOG_H_
#define TENSORFERRY_CATALOG_CATALOG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "catalog/bundle.h"

namespace tensorferry {

// Who sees to it that a published bundle does not change.
enum class Ownership {
  kSeal,  // the publisher: nobody may write to the tensors from now on
  kCopy,  // the catalog: it keeps copies, aliased as the originals are
};

// NOT_FOUND, naming the bundle that somebody asked for.
absl::Status NoSuchBundle(absl::string_view name);

// What a peer has to give: bundles by name, of each the newest version. A
// reader who was given version n of a bundle is never given an older one.
// Thread-safe.
//
//   catalog.Publish("model", *ReadSafetensors("model.safetensors"));
//   CatalogServer server(&catalog, {});  // catalog/serve.h: others may pull it
class Catalog {
 public:
  // Keeps at most `max_entries` names, those that were withdrawn included.
  explicit Catalog(size_t max_entries = 65536) : max_entries_(max_entries) {}

  // Returns the version that `contents` became: one more than the last under
  // this name. Older ones live on with those who hold them.
  // INVALID_ARGUMENT: the name (CheckBundleName), what CheckNamed says.
  // RESOURCE_EXHAUSTED: no memory for a copy, or a new name beyond max_entries.
  absl::StatusOr<uint64_t> Publish(const std::string& name,
                                   NamedTensors contents,
                                   Ownership ownership = Ownership::kSeal);

  // The newest version, or exactly `version`.
  // NOT_FOUND: no such bundle, or `version` is not the newest; says which is.
  absl::StatusOr<BundlePtr> Get(
      absl::string_view name,
      std::optional<uint64_t> version = std::nullopt) const;

  // The newest versions of all bundles whose names `glob` matches, by name, as
  // they are at one moment.
  std::vector<BundlePtr> List(absl::string_view glob = "*") const;

  // NOT_FOUND: no such bundle. Published again, it goes on counting.
  absl::Status Withdraw(absl::string_view name);

 private:
  const size_t max_entries_;
  mutable absl::Mutex mu_;
  std::map<std::string, BundlePtr, std::less<>> newest_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, uint64_t> versions_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_CATALOG_H_
