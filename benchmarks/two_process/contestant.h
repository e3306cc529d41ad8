#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_CONTESTANT_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_CONTESTANT_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/two_process/workload.h"

namespace tensorferry::benchmarks {

// One way to move a message from this process to the other. Each contestant
// has a connection of its own for each path, open for the whole run.
class Sender {
 public:
  virtual ~Sender() = default;
  // Returns when the receiver has said that it has the tensors.
  virtual absl::Status Send(const Contents& contents) = 0;
};

// The other process's half.
class Receiver {
 public:
  virtual ~Receiver() = default;
  // Gets ready for one message with the layout of `like`: received into `like`
  // itself if `reuse`, otherwise into memory allocated when it comes. `like`
  // must outlive the message.
  virtual void Arm(const Contents& like, bool reuse) = 0;
  // The tensors of that message, once the sender has been told.
  virtual absl::StatusOr<std::vector<at::Tensor>> Take() = 0;
};

struct Contestant {
  std::string name;
  bool only_many = false;  // takes part only where messages have many tensors
  // What it sends lies in memory to lend, and the receiver leases it: takes
  // part only over unix/local, where the receiver has no tensors of its own.
  bool leases = false;
};

// The first is what the others are compared with.
inline const std::vector<Contestant>& Contestants() {
  static const auto& contestants = *new std::vector<Contestant>{
      {"bare"},
      {"bare_packed", true},
      {"ferry_lease", false, true},
      {"ferry_lease_read", false,
       true},  // every byte, before the sender goes on
      {"ferry"},
      {"ferry_digest"},
  };
  return contestants;
}

// tensorferry's; bare tensorpipe takes its own nearest, see ConnectBare.
inline const std::vector<std::string>& BenchmarkPaths() {
  static const auto& paths = *new std::vector<std::string>{
      "unix/local", "unix/basic", "tcp/basic", "tls/basic"};
  return paths;
}

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_CONTESTANT_H_
