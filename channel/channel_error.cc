#include "channel/channel_error.h"

#include <memory>
#include <string>
#include <utility>

#include "channel/local_channel.h"

namespace tensorferry {
namespace {

class ChannelError final : public tensorpipe::BaseError {
 public:
  explicit ChannelError(absl::Status status) : status_(std::move(status)) {}
  std::string what() const override { return status_.ToString(); }
  const absl::Status& status() const { return status_; }

 private:
  const absl::Status status_;
};

}  // namespace

tensorpipe::Error LocalChannelError(const absl::Status& status) {
  return tensorpipe::Error(std::make_shared<ChannelError>(status), __FILE__,
                           __LINE__);
}

std::optional<absl::Status> LocalChannelErrorStatus(
    const tensorpipe::Error& error) {
  const auto ours = error.castToType<ChannelError>();
  if (ours == nullptr) return std::nullopt;
  return ours->status();
}

}  // namespace tensorferry
