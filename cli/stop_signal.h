#ifndef TENSORFERRY_CLI_STOP_SIGNAL_H_
#define TENSORFERRY_CLI_STOP_SIGNAL_H_

#include "absl/status/statusor.h"

namespace tensorferry::cli {

// SIGTERM and SIGINT as something to wait for. The first of them is waited for,
// a second, of either kind, ends the process as it always did. Once per
// process, before the signals may come.
class StopSignal {
 public:
  static absl::StatusOr<StopSignal> Catch();
  void Await();

 private:
  explicit StopSignal(int fd) : fd_(fd) {}
  int fd_;  // readable once a signal came; never closed, the handler has it
};

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_STOP_SIGNAL_H_
