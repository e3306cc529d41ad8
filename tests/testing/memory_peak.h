#ifndef TENSORFERRY_TESTS_TESTING_MEMORY_PEAK_H_
#define TENSORFERRY_TESTS_TESTING_MEMORY_PEAK_H_

#include <atomic>
#include <cstdint>
#include <thread>

#include "absl/synchronization/notification.h"

namespace tensorferry {
namespace testing {

// This process's RssAnon + RssShmem, in bytes: its memory without the pages of
// files.
uint64_t OwnMemory();

// Watches OwnMemory from construction on, some hundred times a second.
class MemoryPeak {
 public:
  MemoryPeak();
  ~MemoryPeak();
  // The highest value so far, less the one at the start.
  uint64_t Growth() const;

 private:
  void Watch();

  const uint64_t before_;
  std::atomic<uint64_t> peak_;
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_MEMORY_PEAK_H_
