#include "cuda/shared_channel.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "cuda/session_channel.h"

namespace tensorferry {

SharedChannel::SharedChannel(
    std::string name, std::shared_ptr<tensorpipe::channel::Context> context,
    ChannelChecks checks)
    : name_(std::move(name)),
      context_(std::move(context)),
      checks_(std::move(checks)) {}

std::shared_ptr<tensorpipe::channel::Context> SharedChannel::MakeSession(
    Session session) {
  return MakeSessionChannel(this, std::move(session));
}

absl::Status SharedChannel::lost() const {
  absl::MutexLock lock(&mu_);
  return lost_;
}

void SharedChannel::Enter(absl::FunctionRef<void()> code) {
  if (!lost().ok()) return;
  const absl::Status thrown =
      CatchExceptions(absl::StrCat(name_, ": tensorpipe"), code);
  if (thrown.ok()) return;
  cudaGetLastError();  // forgotten: libtorch would take it for its own
  Lose(thrown);
}

void SharedChannel::Add(std::weak_ptr<User> user) {
  absl::MutexLock lock(&mu_);
  std::erase_if(users_, [](const auto& other) { return other.expired(); });
  users_.push_back(std::move(user));
}

void SharedChannel::Lose(const absl::Status& thrown) {
  std::vector<std::weak_ptr<User>> users;
  {
    absl::MutexLock lock(&mu_);
    if (!lost_.ok()) return;
    lost_ = absl::UnavailableError(thrown.message());
    users = users_;
  }
  for (const std::weak_ptr<User>& weak : users) {
    if (const std::shared_ptr<User> user = weak.lock()) user->OnLost(lost());
  }
}

}  // namespace tensorferry
