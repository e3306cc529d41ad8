#ifndef TENSORFERRY_TRANSFER_ENDPOINT_H_
#define TENSORFERRY_TRANSFER_ENDPOINT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/done.h"
#include "base/executor.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "transfer/backend_registry.h"
#include "transfer/link.h"
#include "transfer/rules.h"
#include "transport/hub.h"

namespace tensorferry {

struct EndpointOptions {
  std::string name;              // of the peer, for errors
  HubOptions data;               // where lanes begin and end; without its loop
  Executor* executor = nullptr;  // user callbacks, digests; required
  Clock* clock = Clock::Real();
  const BackendRegistry* backends = nullptr;      // null: the global one
  const ConverterRegistry* converters = nullptr;  // null: the global one
  // Where tensors are received into: here if given, else into memory that is
  // kept for the next ones (pool/buffer_pool.h), of up to `pool_bytes` for all
  // links of all endpoints that name no number of their own, or of this one;
  // what goes beyond gets libtorch's memory. 0: all of it does.
  BufferSource* buffers = nullptr;
  std::optional<uint64_t> pool_bytes;  // nullopt: PoolBudget::OfProcess
};

// Whether nothing but this host can reach what `data` listens on.
bool OnLoopback(const HubOptions& data);

// Where data lanes of one process begin and end: the hub that lets peers in,
// the one loop that it, tensorpipe and all links run on, the threads that
// channels copy with and that help to digest, and one tensorpipe::Context for
// each session, so that a session which goes wrong takes no other with it.
// Thread-safe.
class Endpoint {
 public:
  // Statuses: those of Hub::Create.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Create(
      EndpointOptions options);
  // Closes what is open and waits until the transport has let go of all
  // buffers. Links must not be used afterwards. Not from a callback.
  virtual ~Endpoint() = default;

  // The callee's half: prepares lanes for a session and says where. The key (16
  // random bytes) is made here; no connection gets in that does not prove it.
  // It is void when the link ends, or after 10 s if the lanes are not up by
  // then. `on_up` runs once, when all lanes are up (OK) or never will be.
  // `on_down` runs at most once, after on_up with OK, when the link ends by
  // itself, with the reason. Statuses: those of Hub::Expect.
  struct Expected {
    // One for each wire of the rules' paths that this side can listen on, in
    // their order: "unix://@x", "tcp://127.0.0.1:40411".
    std::vector<std::string> addresses;
    std::string key;
    std::shared_ptr<Link> link;  // Send and Receive before on_up are queued
  };
  virtual absl::StatusOr<Expected> Expect(TransferRules rules, DoneStatus on_up,
                                          DoneStatus on_down) = 0;

  // The caller's half: opens the lanes to a peer that expects them, at the
  // first of `addresses` that can be reached.
  // UNAVAILABLE: nobody there; UNAUTHENTICATED: key refused;
  // DEADLINE_EXCEEDED: not up within `timeout`; INVALID_ARGUMENT: addresses.
  virtual void Dial(std::vector<std::string> addresses, const std::string& key,
                    TransferRules rules, absl::Duration timeout,
                    DoneStatus on_down, Done<std::shared_ptr<Link>> done) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_ENDPOINT_H_
