#ifndef TENSORFERRY_CATALOG_BLOCKING_H_
#define TENSORFERRY_CATALOG_BLOCKING_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "catalog/catalog_client.h"
#include "catalog/echo.h"
#include "catalog/pull.h"
#include "catalog/push.h"

namespace tensorferry::blocking {

// Twins of the asynchronous calls that wait for their end, for whoever has a
// thread to wait on. Never in a callback. Each ends by its own timeout.
absl::StatusOr<Pulled> Pull(std::shared_ptr<Session> session,
                            PullOptions options = {});
absl::StatusOr<Pushed> Push(std::shared_ptr<Session> session,
                            NamedTensors contents, PushOptions options);
absl::StatusOr<std::vector<BundleInfo>> ListBundles(CatalogClient& client,
                                                    const ListFilter& filter,
                                                    absl::Duration timeout);
absl::StatusOr<absl::Duration> Echo(std::shared_ptr<Session> session,
                                    at::Tensor tensor, bool and_back,
                                    absl::Duration timeout);

}  // namespace tensorferry::blocking

#endif  // TENSORFERRY_CATALOG_BLOCKING_H_
