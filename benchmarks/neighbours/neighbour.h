#ifndef TENSORFERRY_BENCHMARKS_NEIGHBOURS_NEIGHBOUR_H_
#define TENSORFERRY_BENCHMARKS_NEIGHBOURS_NEIGHBOUR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/two_process/contestant.h"

namespace tensorferry::benchmarks {

// Where the receiving process waits for the one sender.
class Acceptor {
 public:
  virtual ~Acceptor() = default;
  virtual const std::string& address() const = 0;
  // Waits for it. The receiver may need this object.
  virtual absl::StatusOr<std::unique_ptr<Receiver>> Accept() = 0;
};

// One row of the comparison: tensorferry, a library beside it, or a limit of
// the machine. Each has two processes of its own, one call in each of them.
struct Neighbour {
  std::function<absl::StatusOr<std::unique_ptr<Acceptor>>()> listen;
  std::function<absl::StatusOr<std::unique_ptr<Sender>>(const std::string&)>
      connect;
};

// Over one of two_process's paths.
Neighbour FerryNeighbour(std::string path, bool digests);
Neighbour BareNeighbour(std::string path, bool packed);
// A bidirectional stream of messages of up to 2 MiB, each acknowledged.
Neighbour GrpcNeighbour(std::string listen_on);
// PyTorch's TensorPipeAgent as C++ code calls it.
Neighbour RpcNeighbour();
// A library of plugin.h, for what is built against a wheel's headers.
Neighbour PluginNeighbour(std::string library);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_NEIGHBOURS_NEIGHBOUR_H_
