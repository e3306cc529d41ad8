#ifndef TENSORFERRY_TRANSPORT_HUB_H_
#define TENSORFERRY_TRANSPORT_HUB_H_

#include <tensorpipe/transport/context.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/peer_process.h"
#include "transport/data_address.h"
#include "transport/poll_loop.h"
#include "transport/session_key.h"

namespace tensorpipe::transport {
class Connection;
}  // namespace tensorpipe::transport

namespace tensorferry {

struct HubOptions {
  PollLoop* loop = nullptr;  // where all of it runs; must outlive the hub
  // Interface for TCP: a number, IPv4 or IPv6; empty: no TCP. 0.0.0.0 and ::
  // are taken as asked, and then `advertise` is required.
  std::string host = "127.0.0.1";
  uint16_t lowest_port = 0, highest_port = 0;  // 0: any free one
  std::string advertise;  // in addresses in place of `host`; empty: `host`
  // Whether plain TCP may come from other hosts, and go to them.
  bool plaintext_from_hosts = false, plaintext_to_hosts = false;

  absl::Duration handshake_timeout = absl::Seconds(5);  // connect included
  // Connections that have not named a session yet: when full, the oldest that
  // says nothing has to go. Those that have count for their session.
  int max_handshakes = 256;
  int max_handshakes_per_address = 128;  // the same, of one other host
  int max_connections_per_session = 256;
  // Bytes of one of tensorpipe's own packets (a descriptor with its manifest).
  uint64_t max_packet_bytes = uint64_t{64} << 20;
};

struct HubCounters {
  uint64_t accepted = 0;       // connections that proved a key
  uint64_t refused = 0;        // that did not, or were evicted or too late
  uint64_t broken_frames = 0;  // connections ended by a frame out of bounds
  uint64_t tensorpipe_threw = 0;
};

// What a transport context tells its owner; on the hub's loop.
struct ContextEvents {
  // tensorpipe threw while it handled what this session's peer sent. Its
  // tensorpipe::Context is in an unknown state: nothing of it may be called
  // any more but what the hub still closes, and it must not be joined.
  std::function<void(absl::Status why)> on_wedged;
};

// The data plane's door: one listening unix socket and one TCP socket for the
// process, however many sessions there are. A connection proves that it knows
// its session's key, and has the hub prove the same, before tensorpipe is given
// a byte of it; then it belongs to the tensorpipe::transport::Context of that
// session and to no other. What opens a pipe leaves together with our proof, and
// everything else after the peer's.
//
// The contexts serve tensorpipe::Context::registerTransport. Their connections
// call back on the loop, each callback exactly once, in order per direction,
// never under a lock, maybe within the call. What a callback throws ends up in
// ContextEvents. close() and the destructors work from any thread; join() must
// not be called on the loop. tensorpipe runs its callbacks on whatever thread
// is inside the same tensorpipe::Context at that moment: call into it on the
// loop, or what it throws comes out of your call.
class Hub {
 public:
  // Starts to listen at the first Expect. INVALID_ARGUMENT: options.
  // FAILED_PRECONDITION: the tensorpipe in this process is not the one that
  // transport/ was written for.
  static absl::StatusOr<std::unique_ptr<Hub>> Create(HubOptions options);
  // All contexts have to be closed before.
  virtual ~Hub() = default;

  // The accepting half of a session.
  struct Expected {
    std::shared_ptr<tensorpipe::transport::Context> context;
    std::string listen;  // for tensorpipe::Context::listen, without "name://"
    // For the dialing side, in the order of `wires`; those that this hub
    // cannot listen on are left out.
    std::vector<std::string> addresses;
  };
  // Connections of this session are taken until the context is closed, or
  // `unused_until` if none has come by then (the context's listener then fails
  // with UNAVAILABLE). FAILED_PRECONDITION: none of the wires; says why not.
  // ALREADY_EXISTS: this session is expected. RESOURCE_EXHAUSTED: no
  // descriptors are left. UNAVAILABLE: no port of the range is free.
  virtual absl::StatusOr<Expected> Expect(const SessionKey& session,
                                          const std::vector<Wire>& wires,
                                          absl::Time unused_until,
                                          ContextEvents events) = 0;

  // The dialing half. The context connects to `address` and nowhere else,
  // whatever the peer says. INVALID_ARGUMENT: no address, or plain TCP to
  // another host.
  virtual absl::StatusOr<std::shared_ptr<tensorpipe::transport::Context>> Dial(
      const SessionKey& session, const std::string& address,
      ContextEvents events) = 0;

  virtual HubCounters counters() const = 0;
};

// The process behind a connection of a hub's context, or nullopt: not a unix
// socket, not connected yet, not a hub's.
std::optional<PeerProcess> PeerProcessOf(
    const tensorpipe::transport::Connection& connection);

// The status behind an error that a hub's connection or listener gave to
// tensorpipe, which only hands on its text. UNAUTHENTICATED: a key was wrong;
// DATA_LOSS: a frame of another length than expected; DEADLINE_EXCEEDED: the
// handshake; UNAVAILABLE: the rest.
absl::Status HubErrorStatus(const std::string& error_text);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HUB_H_
