#ifndef TENSORFERRY_BENCHMARKS_WIRES_WIRES_H_
#define TENSORFERRY_BENCHMARKS_WIRES_WIRES_H_

#include <tensorpipe/core/context.h>
#include <tensorpipe/core/listener.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tensorferry::benchmarks {

// What is compared: tensorpipe's own transports, then ours.
std::vector<std::string> AllWires();  // "uv", "shm", "unix", "tcp", "tls"

// One end of a wire: a tensorpipe::Context with one transport and tensorpipe's
// basic channel, so that all bytes take the wire. Closed when it goes.
class WireEnd {
 public:
  virtual ~WireEnd() = default;

  tensorpipe::Context& context() { return *context_; }
  tensorpipe::Listener& listener() { return *listener_; }  // of who listens
  // What tensorpipe connects to: its own end's or, dialing, the other's.
  const std::string& url() const { return url_; }

 protected:
  std::shared_ptr<tensorpipe::Context> context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::string url_;
};

// On this host. The listener's URL is for DialWire in another process.
absl::StatusOr<std::unique_ptr<WireEnd>> ListenOnWire(const std::string& wire);
absl::StatusOr<std::unique_ptr<WireEnd>> DialWire(const std::string& wire,
                                                  const std::string& url);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_WIRES_WIRES_H_
