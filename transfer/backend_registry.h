#ifndef TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_
#define TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_

#include <tensorpipe/tensorpipe.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace tensorferry {

// A transport that tensorpipe can run over.
struct TransportBackend {
  std::string name;  // "uv"
  int priority = 0;  // unique among transports
  std::function<std::shared_ptr<tensorpipe::transport::Context>()> make;
};

// A channel that tensorpipe can carry a device pair with.
struct ChannelBackend {
  enum class Reach { kAnywhere, kSameHost, kSameHostAndUser };
  std::string name;  // "cma"
  int priority = 0;  // unique among channels
  Reach reach = Reach::kAnywhere;
  std::string from_type = "cpu", to_type = "cpu";
  std::function<std::shared_ptr<tensorpipe::channel::Context>()> make;
  // Why it cannot be used in this process now; empty: it can.
  std::function<std::string()> unusable;
};

// A path as control/ speaks of it: "transport/channel".
struct PathInfo {
  std::string name, from_type, to_type;
  int priority = 0;
  ChannelBackend::Reach reach = ChannelBackend::Reach::kAnywhere;
  std::string unusable;
};

// The transports and channels that this program has. Write-once per name, like
// the converters. Thread-safe.
class BackendRegistry {
 public:
  static BackendRegistry& Global();  // //transfer registers uv, basic and cma

  // ALREADY_EXISTS: the name or the priority is taken.
  absl::Status Register(TransportBackend transport);
  absl::Status Register(ChannelBackend channel);

  std::vector<TransportBackend> transports() const;  // highest priority first
  std::vector<ChannelBackend> channels() const;
  std::vector<PathInfo> Paths() const;

 private:
  mutable absl::Mutex mu_;
  std::vector<TransportBackend> transports_ ABSL_GUARDED_BY(mu_);
  std::vector<ChannelBackend> channels_ ABSL_GUARDED_BY(mu_);
};

// At namespace scope of an `alwayslink` library's .cc file; ends the process
// with a message if the name is taken.
struct BackendRegistrar {
  explicit BackendRegistrar(TransportBackend transport);
  explicit BackendRegistrar(ChannelBackend channel);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_
