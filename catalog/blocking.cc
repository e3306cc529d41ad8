#include "catalog/blocking.h"

#include <utility>

#include "absl/synchronization/notification.h"

namespace tensorferry::blocking {
namespace {

// Runs `start`, which takes a Done<T>, and waits for that to be called.
template <class T, class Start>
absl::StatusOr<T> Await(Start start) {
  absl::Notification ended;
  absl::StatusOr<T> result;
  start(Done<T>([&](absl::StatusOr<T> r) {
    result = std::move(r);
    ended.Notify();
  }));
  ended.WaitForNotification();
  return result;
}

}  // namespace

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
