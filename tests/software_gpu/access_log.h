#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_ACCESS_LOG_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_ACCESS_LOG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/software_gpu/vector_clock.h"

namespace tensorferry::software_gpu {

// One piece of work's use of the bytes [begin, end) of an allocation. Lies in
// memory that processes share, so it is plain bytes.
struct Access {
  uint64_t begin = 0;
  uint64_t end = 0;
  StreamId stream = 0;
  uint64_t epoch = 0;
  bool write = false;
  char name[31] = {};  // of the work; cut if longer
};

// The accesses in `log` that `access` conflicts with: they overlap, one of the
// two writes, and `clock`, the one of the work that makes the access, does not
// cover them.
std::vector<Access> Conflicts(const std::vector<Access>& log,
                              const Access& access, const VectorClock& clock);

// Adds `access`, and drops what it makes superfluous: whoever conflicts with
// one of those conflicts with `access` too.
void Add(const Access& access, const VectorClock& clock,
         std::vector<Access>& log);

// "write of [0, 64) by copy, stream 3 of process 17".
std::string ToString(const Access& access);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_ACCESS_LOG_H_
