#include "tests/testing/memory_peak.h"

#include <fstream>
#include <limits>
#include <string>

#include "absl/time/time.h"

namespace tensorferry {
namespace testing {

uint64_t OwnMemory() {
  std::ifstream status("/proc/self/status");
  uint64_t kib = 0;
  for (std::string key; status >> key;) {
    if (key == "RssAnon:" || key == "RssShmem:") {
      uint64_t value = 0;
      status >> value;
      kib += value;
    }
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return kib * 1024;
}

MemoryPeak::MemoryPeak()
    : before_(OwnMemory()), peak_(before_), thread_([this] { Watch(); }) {}

MemoryPeak::~MemoryPeak() {
  stop_.Notify();
  thread_.join();
}

uint64_t MemoryPeak::Growth() const { return peak_ - before_; }

void MemoryPeak::Watch() {
  while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(2))) {
    const uint64_t now = OwnMemory();
    if (now > peak_) peak_ = now;
  }
}

}  // namespace testing
}  // namespace tensorferry
