#ifndef TENSORFERRY_SESSION_USER_CODE_H_
#define TENSORFERRY_SESSION_USER_CODE_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

// Runs what a user gave us. What it throws is INTERNAL: "a handler threw: ...".
absl::Status RunUserCode(absl::string_view what,
                         absl::FunctionRef<void()> code);

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_USER_CODE_H_
