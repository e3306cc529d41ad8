#ifndef TENSORFERRY_TESTS_CONTROL_STALLED_CALLER_H_
#define TENSORFERRY_TESTS_CONTROL_STALLED_CALLER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace tensorferry {
namespace testing {

// Calls a server on 127.0.0.1, in HTTP/2 of its own, and opens no window for
// the answers: the server has to keep them until this is gone.
class StalledCaller {
 public:
  explicit StalledCaller(absl::string_view address);
  // One more call of "/package.Service/Method", with an empty request.
  void Call(absl::string_view method);

 private:
  void Say(absl::string_view bytes);

  UniqueFd fd_;
  int next_stream_ = 1;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CONTROL_STALLED_CALLER_H_
