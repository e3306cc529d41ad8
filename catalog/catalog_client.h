#ifndef TENSORFERRY_CATALOG_CATALOG_CLIENT_H_
#define TENSORFERRY_CATALOG_CATALOG_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "base/home_process.h"
#include "catalog/bundle.h"
#include "control/security.h"

namespace tensorferry {

// Which bundles and tensors to list; globs.
struct ListFilter {
  std::string bundle = "*";
  std::string names = "*";
};

// Asks another peer what it has to give. Thread-safe. Results come on a thread
// of the client's, one at a time: be short. What a callback throws is dropped.
//
// Statuses: INVALID_ARGUMENT (address, or an answer that is not well formed),
// UNAVAILABLE (nobody there), DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (the answer
// would be too long; narrow the filter), UNIMPLEMENTED (it serves no catalog),
// FAILED_PRECONDITION (this is a child after fork of the process that made it).
class CatalogClient {
 public:
  // `address` is the peer's control address. As ControlClient::Create.
  static absl::StatusOr<std::unique_ptr<CatalogClient>> Create(
      const std::string& address, const ClientSecurity& security = {});
  // Calls under way end with CANCELLED, and their callbacks have run when this
  // returns. Not in one of them. In a child after fork it does nothing.
  ~CatalogClient();

  void ListBundles(const ListFilter& filter, absl::Duration timeout,
                   Done<std::vector<BundleInfo>> done);

 private:
  class State;
  explicit CatalogClient(std::unique_ptr<State> state);
  const HomeProcess home_;
  std::unique_ptr<State> state_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_CATALOG_CLIENT_H_
