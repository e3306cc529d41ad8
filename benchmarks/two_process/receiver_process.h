#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_RECEIVER_PROCESS_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_RECEIVER_PROCESS_H_

#include <string>

namespace tensorferry::benchmarks {

// The receiving process. Writes its addresses on one line, "CONTROL URL URL",
// a URL for each of Paths(), then obeys one line of standard input at a time
// until that ends:
//
//   connect CONTESTANT PATH   "connected", once the connection is there
//   load WORKLOAD             "loaded"
//   turn CONTESTANT PATH fresh|reuse N
//       "armed" before each of N messages, then "took CPU
//       SWITCHES FINGERPRINT": CPU seconds and context switches of this process
//       for each message, and what the last one held
//
// Answers "error ..." and ends with exit code 1 where something goes wrong.
int RunReceiver(const std::string& model);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_RECEIVER_PROCESS_H_
