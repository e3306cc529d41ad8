#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_PROCESS_USAGE_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_PROCESS_USAGE_H_

#include <sys/resource.h>

namespace tensorferry::benchmarks {

// What a process has used, all its threads together.
struct ProcessUsage {
  double cpu_seconds = 0;       // user and system
  double context_switches = 0;  // waits and preemptions

  static ProcessUsage Now() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    auto seconds = [](const timeval& t) { return t.tv_sec + t.tv_usec * 1e-6; };
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime),
            static_cast<double>(usage.ru_nvcsw + usage.ru_nivcsw)};
  }

  // What one of `messages` took since `before`.
  ProcessUsage Each(const ProcessUsage& before, int messages) const {
    return {(cpu_seconds - before.cpu_seconds) / messages,
            (context_switches - before.context_switches) / messages};
  }
};

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_PROCESS_USAGE_H_
