#ifndef TENSORFERRY_TESTS_RELIABILITY_WIRE_H_
#define TENSORFERRY_TESTS_RELIABILITY_WIRE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tensorferry {
namespace testing {

// Two hosts and a wire between them: network namespaces of our own, whose
// packets all pass through this object, where they may be late or get lost.
class Wire {
 public:
  // UNAVAILABLE: this machine does not let us; says what.
  static absl::StatusOr<std::unique_ptr<Wire>> Create();
  ~Wire();

  // Of host 0 or 1: for Confinement::network, and its address.
  std::string network(int host) const;
  std::string address(int host) const;

  void Cut() { cut_ = true; }  // no packet arrives any more
  void SetDelay(absl::Duration each_way) {
    delay_ns_ = absl::ToInt64Nanoseconds(each_way);
  }
  void LoseOneOf(int packets) { lose_ = packets; }  // 0: none

 private:
  // One end: a namespace, and the device in it that we read and write.
  struct End {
    int network = -1, device = -1;
  };
  Wire(End first, End second);
  static absl::StatusOr<End> MakeEnd(int host);
  void Carry();

  const End ends_[2];
  std::atomic<bool> stopping_{false}, cut_{false};
  std::atomic<int64_t> delay_ns_{0};
  std::atomic<int> lose_{0};
  std::thread thread_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_WIRE_H_
