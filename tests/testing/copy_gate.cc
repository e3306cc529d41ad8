#include "tests/testing/copy_gate.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace {

struct Gate {
  absl::Mutex mu;
  bool shut ABSL_GUARDED_BY(mu) = false;
  int waiting ABSL_GUARDED_BY(mu) = 0;
  int passes ABSL_GUARDED_BY(mu) = 0;

  bool MayPass() const { return !shut || passes > 0; }
};

Gate& TheGate() {
  static auto* const gate = new Gate;
  return *gate;
}

void Pass(Gate& gate) {
  absl::MutexLock lock(&gate.mu);
  ++gate.waiting;
  auto may_pass = [&gate] { return gate.MayPass(); };
  gate.mu.Await(absl::Condition(&may_pass));
  --gate.waiting;
  if (gate.shut) --gate.passes;
}

}  // namespace

// Those who prove a peer read a byte at most besides its nonce.
extern "C" ssize_t process_vm_readv(pid_t pid, const iovec* local,
                                    unsigned long local_count,
                                    const iovec* remote,
                                    unsigned long remote_count,
                                    unsigned long flags) noexcept {
  if (local_count > 1 && local[0].iov_len > 1) Pass(TheGate());
  return syscall(SYS_process_vm_readv, pid, local, local_count, remote,
                 remote_count, flags);
}

namespace tensorferry {
namespace testing {

CopyGate::CopyGate() {
  absl::MutexLock lock(&TheGate().mu);
  TheGate().shut = true;
}

CopyGate::~CopyGate() {
  absl::MutexLock lock(&TheGate().mu);
  TheGate().shut = false;
}

bool CopyGate::AwaitOne() {
  Gate& gate = TheGate();
  absl::MutexLock lock(&gate.mu);
  auto one = [&gate] { return gate.waiting > gate.passes; };
  return gate.mu.AwaitWithTimeout(absl::Condition(&one), absl::Seconds(30));
}

bool CopyGate::LetOne() {
  if (!AwaitOne()) return false;
  absl::MutexLock lock(&TheGate().mu);
  ++TheGate().passes;
  return true;
}

}  // namespace testing
}  // namespace tensorferry
