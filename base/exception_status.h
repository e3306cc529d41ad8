#ifndef TENSORFERRY_BASE_EXCEPTION_STATUS_H_
#define TENSORFERRY_BASE_EXCEPTION_STATUS_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Runs code that may throw, and says what it threw: INTERNAL, "a handler threw:
// ...", or RESOURCE_EXHAUSTED if that was std::bad_alloc or a thread that could
// not be started. The one place where exceptions of others become statuses.
absl::Status CatchExceptions(absl::string_view what,
                             absl::FunctionRef<void()> code);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_EXCEPTION_STATUS_H_
