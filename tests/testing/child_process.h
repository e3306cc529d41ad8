#ifndef TENSORFERRY_TESTS_TESTING_CHILD_PROCESS_H_
#define TENSORFERRY_TESTS_TESTING_CHILD_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tensorferry {
namespace testing {

// A second real process of a test: this very program, started anew with
// `arguments`. It writes lines to its standard output for ReadLine. Killed
// when the object goes, if it still runs; dies with its parent.
class ChildProcess {
 public:
  static absl::StatusOr<ChildProcess> Start(
      const std::vector<std::string>& arguments);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // The next line without its end. UNAVAILABLE: the child closed its output.
  absl::StatusOr<std::string> ReadLine();
  // Writes a line to the child's standard input. UNAVAILABLE: it is closed.
  absl::Status WriteLine(const std::string& line);
  // Ends the child's standard input, which it may wait for.
  void CloseInput();
  void Signal(int signal);
  // SIGSTOP, and waits until none of its threads runs any more.
  void Stop();
  // Waits for the end: its exit code, or 128 + the signal that ended it.
  int Wait();

 private:
  ChildProcess(pid_t pid, int input, int output)
      : pid_(pid), input_(input), output_(output) {}
  pid_t pid_ = -1;
  int input_ = -1;   // of the child; we write
  int output_ = -1;  // of the child; we read
};

// For the child: writes a line to standard output at once.
void WriteLine(const std::string& line);
// For the child: returns when the parent has closed its standard input.
void AwaitInputClosed();

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_CHILD_PROCESS_H_
