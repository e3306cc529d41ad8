#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_CPU_TIME_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_CPU_TIME_H_

#include <sys/resource.h>

namespace tensorferry::benchmarks {

// User and system time of all threads of this process, in seconds.
inline double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return t.tv_sec + t.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_CPU_TIME_H_
