#ifndef TENSORFERRY_TESTS_CUDA_LAGS_H_
#define TENSORFERRY_TESTS_CUDA_LAGS_H_

#include <chrono>
#include <string>

#include "tests/software_gpu/software_gpu.h"

namespace tensorferry {
namespace testing {

// How far the software GPU's work lags behind the host.
struct Lag {
  std::string name;
  software_gpu::Schedule schedule;
};

// The longest that is possible, and as good as none.
inline const Lag kLags[] = {
    {"late", {.order = software_gpu::Schedule::Order::kNewestFirst}},
    {"at_once",
     {.order = software_gpu::Schedule::Order::kOldestFirst,
      .run_unasked_after = std::chrono::milliseconds(0)}},
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_LAGS_H_
