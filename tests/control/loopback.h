#ifndef TENSORFERRY_TESTS_CONTROL_LOOPBACK_H_
#define TENSORFERRY_TESTS_CONTROL_LOOPBACK_H_

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace tensorferry {
namespace testing {

// A TCP connection to the port of `address` ("host:port") on 127.0.0.1.
UniqueFd ConnectToLoopback(absl::string_view address);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CONTROL_LOOPBACK_H_
