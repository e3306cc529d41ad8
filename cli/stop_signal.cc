#include "cli/stop_signal.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tensorferry::cli {
namespace {

int stop_fd = -1;  // what a signal handler may know is global

void OnSignal(int) {
  const int saved_errno = errno;
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd, &one, sizeof(one));
  errno = saved_errno;
}

}  // namespace

absl::StatusOr<StopSignal> StopSignal::Catch() {
  stop_fd = eventfd(0, EFD_CLOEXEC);
  if (stop_fd < 0) return absl::ErrnoToStatus(errno, "cannot make an eventfd");
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGTERM, SIGINT}) {
    if (sigaction(signal, &action, nullptr) != 0) {
      return absl::ErrnoToStatus(errno, "cannot catch a signal");
    }
  }
  return StopSignal(stop_fd);
}

void StopSignal::Await() {
  uint64_t count = 0;
  while (read(fd_, &count, sizeof(count)) < 0 && errno == EINTR) {
  }
}

}  // namespace tensorferry::cli
