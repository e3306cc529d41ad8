#ifndef TENSORFERRY_BENCHMARKS_WIRES_ECHO_H_
#define TENSORFERRY_BENCHMARKS_WIRES_ECHO_H_

#include <tensorpipe/core/pipe.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "benchmarks/wires/wires.h"

namespace tensorferry::benchmarks {

// What a message asks for is its metadata.
inline constexpr char kEcho[] = "echo";  // its tensor back
inline constexpr char kTake[] = "take";  // an empty message back

// Answers every message of every pipe until it goes, on tensorpipe's threads.
void ServeEcho(WireEnd& end);

// One pipe to a process that does so. Blocking.
class EchoClient {
 public:
  EchoClient(WireEnd& end, size_t most_bytes);

  // Sends the first `bytes` of `memory`, the same for all, and waits for the
  // answer. DATA_LOSS: an echo of other bytes (looked at if `check`).
  absl::Status Ask(const char* what, const std::vector<char>& memory,
                   size_t bytes, bool check);
  // `count` echoes, each asked for by the callback of the one before: no thread
  // but the transports' takes part. Returns how long each took.
  absl::StatusOr<std::vector<absl::Duration>> AskFromCallbacks(
      const std::vector<char>& memory, size_t bytes, int count);

 private:
  std::shared_ptr<tensorpipe::Pipe> pipe_;
  std::vector<char> answer_;
};

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_WIRES_ECHO_H_
