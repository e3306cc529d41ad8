#ifndef TENSORFERRY_BASE_EXCEPTION_STATUS_H_
#define TENSORFERRY_BASE_EXCEPTION_STATUS_H_

#include <concepts>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Runs code that may throw, and says what it threw: INTERNAL, "a handler threw:
// ...", or RESOURCE_EXHAUSTED if that was std::bad_alloc or a thread that could
// not be started. The one place where exceptions of others become statuses.
absl::Status CatchExceptions(absl::string_view what,
                             absl::FunctionRef<void()> code);

// The same for code that returns a Status or a StatusOr: what it returned,
// unless it threw.
template <class Code, class Result = std::invoke_result_t<Code&>>
requires std::convertible_to<absl::Status, Result> Result
CatchExceptions(absl::string_view what, Code&& code) {
  std::optional<Result> result;
  absl::Status ran = CatchExceptions(what, [&] { result = code(); });
  if (!ran.ok()) return ran;
  return *std::move(result);
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_EXCEPTION_STATUS_H_
