#include "catalog/blocking.h"

#include <utility>

#include "base/await.h"

namespace tensorferry::blocking {

absl::StatusOr<Pulled> Pull(std::shared_ptr<Session> session,
                            PullOptions options) {
  return Await<Pulled>([&](Done<Pulled> done) {
    tensorferry::Pull(std::move(session), std::move(options), std::move(done));
  });
}

absl::StatusOr<Pushed> Push(std::shared_ptr<Session> session,
                            NamedTensors contents, PushOptions options) {
  return Await<Pushed>([&](Done<Pushed> done) {
    tensorferry::Push(std::move(session), std::move(contents),
                      std::move(options), std::move(done));
  });
}

absl::StatusOr<std::vector<BundleInfo>> ListBundles(CatalogClient& client,
                                                    const ListFilter& filter,
                                                    absl::Duration timeout) {
  return Await<std::vector<BundleInfo>>(
      [&](Done<std::vector<BundleInfo>> done) {
        client.ListBundles(filter, timeout, std::move(done));
      });
}

absl::StatusOr<absl::Duration> Echo(std::shared_ptr<Session> session,
                                    at::Tensor tensor, bool and_back,
                                    absl::Duration timeout) {
  return Await<absl::Duration>([&](Done<absl::Duration> done) {
    tensorferry::Echo(std::move(session), std::move(tensor), and_back, timeout,
                      std::move(done));
  });
}

}  // namespace tensorferry::blocking
