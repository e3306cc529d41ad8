#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_VECTOR_CLOCK_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_VECTOR_CLOCK_H_

#include <algorithm>
#include <cstdint>
#include <map>

namespace tensorferry::software_gpu {

// Names one stream among those of all processes: the process's id in the upper
// half.
using StreamId = uint64_t;

// How far the work of each stream has come, as somebody knows it. The work of a
// stream is numbered from 1; its number is its epoch.
class VectorClock {
 public:
  void Join(const VectorClock& other) {
    for (const auto& [stream, epoch] : other.epochs_) Advance(stream, epoch);
  }
  void Advance(StreamId stream, uint64_t epoch) {
    uint64_t& mine = epochs_[stream];
    mine = std::max(mine, epoch);
  }
  // Whether that piece of work happened before.
  bool Covers(StreamId stream, uint64_t epoch) const {
    auto found = epochs_.find(stream);
    return found != epochs_.end() && found->second >= epoch;
  }
  const std::map<StreamId, uint64_t>& epochs() const { return epochs_; }

 private:
  std::map<StreamId, uint64_t> epochs_;
};

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_VECTOR_CLOCK_H_
