#include "transport/hub_error.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tensorferry {
namespace {

constexpr absl::string_view kMark = "tensorferry transport: ";
constexpr absl::string_view kTail = " (this error originated at ";
constexpr absl::StatusCode kCodes[] = {
    absl::StatusCode::kCancelled,        absl::StatusCode::kInvalidArgument,
    absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kUnauthenticated,
    absl::StatusCode::kDataLoss,         absl::StatusCode::kResourceExhausted,
    absl::StatusCode::kInternal,         absl::StatusCode::kFailedPrecondition,
};

class StatusError final : public tensorpipe::BaseError {
 public:
  explicit StatusError(std::string text) : text_(std::move(text)) {}
  std::string what() const override { return text_; }

 private:
  const std::string text_;
};

}  // namespace

tensorpipe::Error ToTensorpipeError(const absl::Status& status) {
  std::string text = absl::StrCat(
      kMark, absl::StatusCodeToString(status.code()), ": ", status.message());
  return tensorpipe::Error(std::make_shared<StatusError>(std::move(text)),
                           "transport", 0);
}

absl::Status FromTensorpipeError(absl::string_view text) {
  const size_t mark = text.find(kMark);
  if (mark == absl::string_view::npos) return absl::UnavailableError(text);
  text.remove_prefix(mark + kMark.size());
  text = text.substr(0, text.rfind(kTail));
  for (absl::StatusCode code : kCodes) {
    const std::string name = absl::StatusCodeToString(code);
    if (text.substr(0, name.size()) == name) {
      return absl::Status(code, text.substr(text.find(": ") + 2));
    }
  }
  return absl::UnavailableError(text.substr(text.find(": ") + 2));
}

}  // namespace tensorferry
