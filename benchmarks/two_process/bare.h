#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_BARE_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_BARE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/two_process/contestant.h"

namespace tensorferry::benchmarks {

// tensorpipe as a program would use it that knows both ends: one
// Message.tensor for each tensor, no manifest, no names, no digest. The
// receiver knows the sizes beforehand, trusts what comes and answers with one
// byte. With `packed` the sender copies all tensors into one buffer that it
// keeps, and the receiver cuts it up again.

// `path` is one of tensorferry's. This takes tensorpipe's nearest: uv with cma
// for unix/local, which copies from memory to memory, else uv with basic, which
// is a TCP connection.

// Both ends of a path, each on a tensorpipe::Context of its own.
class BareListener {
 public:
  static std::unique_ptr<BareListener> Create(const std::string& path);
  virtual ~BareListener() = default;
  virtual const std::string& url() const = 0;
  // Waits for the next connection.
  virtual absl::StatusOr<std::unique_ptr<Receiver>> Accept(bool packed) = 0;
};

std::unique_ptr<Sender> ConnectBare(const std::string& path,
                                    const std::string& url, bool packed);

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_BARE_H_
