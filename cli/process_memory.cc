#include "cli/process_memory.h"

#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tensorferry::cli {
namespace {

constexpr uint64_t kBefore = 0x1122334455667788, kAfter = 0x99aabbccddeeff00;
constexpr int kWrongBytes = -1;

// Reads the other process's `shown`, which is at the same address there as
// here, and must find `wanted`. Returns 0, an errno, or kWrongBytes. Safe
// between fork and exec.
int ReadFrom(pid_t other, volatile uint64_t* shown, uint64_t wanted) {
  uint64_t got = 0;
  const iovec into = {&got, sizeof(got)};
  const iovec from = {const_cast<uint64_t*>(shown), sizeof(*shown)};
  const ssize_t count = process_vm_readv(other, &into, 1, &from, 1, 0);
  if (count < 0) return errno;
  return count == sizeof(got) && got == wanted ? 0 : kWrongBytes;
}

absl::Status ToStatus(int result) {
  if (result == 0) return absl::OkStatus();
  if (result == kWrongBytes) {
    return absl::DataLossError("process_vm_readv read other bytes");
  }
  return absl::ErrnoToStatus(result, "process_vm_readv");
}

// Two processes that wait for one another.
struct Pipe {
  int ends[2] = {-1, -1};
  bool Open() { return pipe(ends) == 0; }
  ~Pipe() {
    for (int end : ends) {
      if (end >= 0) close(end);
    }
  }
};

}  // namespace

absl::Status ReadChildsMemory() {
  Pipe ready, finished;
  if (!ready.Open() || !finished.Open()) {
    return absl::ErrnoToStatus(errno, "pipe");
  }
  volatile uint64_t shown = kBefore;
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  char byte = 0;
  if (child == 0) {
    close(finished.ends[1]);
    shown = kAfter;
    if (write(ready.ends[1], &byte, 1) != 1) _exit(1);
    // Until the parent closes its end, whatever becomes of it.
    _exit(static_cast<int>(read(finished.ends[0], &byte, 1)));
  }
  close(ready.ends[1]);
  ready.ends[1] = -1;
  const int result = read(ready.ends[0], &byte, 1) == 1
                         ? ReadFrom(child, &shown, kAfter)
                         : ECHILD;
  close(finished.ends[1]);
  finished.ends[1] = -1;
  waitpid(child, nullptr, 0);
  return ToStatus(result);
}

absl::Status LetChildReadMemory() {
  Pipe answer;
  if (!answer.Open()) return absl::ErrnoToStatus(errno, "pipe");
  volatile uint64_t shown = kBefore;
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) {
    shown = kAfter;  // the parent's is still kBefore
    const int result = ReadFrom(parent, &shown, kBefore);
    _exit(write(answer.ends[1], &result, sizeof(result)) == sizeof(result) ? 0
                                                                           : 1);
  }
  close(answer.ends[1]);
  answer.ends[1] = -1;
  int result = ECHILD;
  if (read(answer.ends[0], &result, sizeof(result)) != sizeof(result)) {
    result = ECHILD;
  }
  waitpid(child, nullptr, 0);
  return ToStatus(result);
}

}  // namespace tensorferry::cli
