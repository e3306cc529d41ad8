#ifndef TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_
#define TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_

#include <tensorpipe/tensorpipe.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/executor.h"
#include "channel/copy_reader.h"
#include "channel/local_channel.h"
#include "pool/buffer_pool.h"
#include "pool/lease_space.h"

namespace tensorferry {

// What a channel gets of the session that it is made for. All of it outlives
// the channel.
struct ChannelEnvironment {
  Executor* copier = nullptr;  // runs copies of some MiB
  Executor* loop = nullptr;    // where the session lives
  bool digests = false;        // the receiver reads all that comes, at once
  // The session's memory to receive into; null: it has none of its own.
  std::shared_ptr<BufferPool> pool;
  // On the loop: where in an arena that the peer may be given a buffer lies, to
  // be read there; nullopt: it is not lent. And where what the peer lends may
  // be put.
  std::function<std::optional<BufferPool::Place>(const void* data,
                                                 uint64_t nbytes)>
      lent;
  std::shared_ptr<const LeaseSpace> leases;
  // On the loop: who reads along while this memory is copied or filled by a
  // copy (see CopyReader); null: nobody.
  std::function<std::shared_ptr<CopyReader>(CopyWay way, const void* data,
                                            uint64_t nbytes)>
      reader_of;
  // On the loop: how a buffer was moved; that what may touch a buffer begins
  // (a copy on the copier, an operation of a channel that sessions share) or
  // has ended, but for a peer that was asked to write to the pool, which is
  // fenced off instead; that tensorpipe threw in a callback.
  std::function<void(Carried)> on_carried;
  std::function<void(bool begun)> on_copy;
  std::function<void(absl::Status why)> on_wedged;
};

// A channel that tensorpipe can carry a device pair with.
struct ChannelBackend {
  enum class Reach { kAnywhere, kSameHost, kSameHostAndUser, kSameProcess };
  struct DeviceTypes {
    std::string from = "cpu", to = "cpu";
  };
  std::string name;  // "local"
  int priority = 0;  // unique among channels; 0 to kMaxPriority
  Reach reach = Reach::kAnywhere;
  std::vector<DeviceTypes> carries = {{}};
  std::function<std::shared_ptr<tensorpipe::channel::Context>(
      const ChannelEnvironment&)>
      make;
  // Why it cannot be used in this process now; empty: it can.
  std::function<std::string()> unusable;
  // Whether it asks the kernel who the peer is, which only a unix socket knows.
  bool only_on_unix = false;
  // Whether a side opens the memory of the other's device, which it has to see
  // for that.
  bool opens_device = false;
  // Whether it trusts a peer with more than a session is opened for, so that
  // each side has to name its path: the offer, and the callee's policy.
  bool only_if_named = false;

  static constexpr int kMaxPriority = 9999;
};

// The channels that this program has. Write-once per name, like the
// converters. Thread-safe.
class BackendRegistry {
 public:
  static BackendRegistry& Global();  // //transfer registers local and basic

  // ALREADY_EXISTS: the name or the priority is taken. INVALID_ARGUMENT:
  // priority.
  absl::Status Register(ChannelBackend channel);

  std::vector<ChannelBackend> channels() const;  // highest priority first

 private:
  mutable absl::Mutex mu_;
  std::vector<ChannelBackend> channels_ ABSL_GUARDED_BY(mu_);
};

// At namespace scope of an `alwayslink` library's .cc file; ends the process
// with a message if the name is taken.
struct BackendRegistrar {
  explicit BackendRegistrar(ChannelBackend channel);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_BACKEND_REGISTRY_H_
