#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_STATISTICS_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_STATISTICS_H_

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace tensorferry::benchmarks {

// The smallest value that at least `share` of all values do not exceed; of few
// values, a share of 0.99 is the largest. There must be one.
inline double Quantile(std::vector<double> values, double share) {
  const auto rank = static_cast<size_t>(
      std::max(1.0, std::ceil(share * static_cast<double>(values.size()))));
  std::nth_element(values.begin(), values.begin() + (rank - 1), values.end());
  return values[rank - 1];
}

inline double Median(std::vector<double> values) {
  return Quantile(std::move(values), 0.5);
}

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_STATISTICS_H_
