#ifndef TENSORFERRY_SESSION_PEER_H_
#define TENSORFERRY_SESSION_PEER_H_

#include <cstdint>
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
#include "control/access.h"
#include "control/capabilities.h"
#include "control/negotiate.h"
#include "control/offer.h"
#include "control/security.h"
#include "control/session_table.h"
#include "serialization/converter_registry.h"
#include "session/session.h"
#include "transfer/backend_registry.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

struct PeerOptions {
  // 1 to 128 bytes of UTF-8 without control characters; not unique by itself,
  // see PeerId.
  std::string name;
  // Where the control plane listens: "127.0.0.1:0", "[::1]:0", "unix:PATH" (a
  // socket that nobody listens on any more is replaced).
  // Empty: nowhere; this peer only connects. Beyond loopback `security` has to
  // authenticate callers, over TLS, or say that it need not.
  std::string control = "127.0.0.1:0";
  // Numeric IP address that data connections listen on. Beyond loopback only
  // with an authenticated control plane, over which their keys go.
  std::string data = "127.0.0.1";
  uint16_t lowest_data_port = 0, highest_data_port = 0;  // 0: any free one
  std::string advertise;    // the host that others are told; empty: `data`
  ServerSecurity security;  // of those who call this peer
  ClientSecurity client_security;  // of those whom it calls
  Limits limits;  // a session gets the smaller of both peers', field by field
  // What every caller may place tensors on, over which paths, within which
  // limits. Who may do what: security.authorizer, e.g. a PolicyFile
  // (control/policy_file.h).
  Policy policy;
  absl::Duration heartbeat = absl::Seconds(4);  // 10 ms to half the lease
  // Silence that ends a session: 100 ms to 1 h.
  absl::Duration lease = absl::Seconds(15);
  int max_sessions = 256;  // accepted at a time: 1 to 4096
  // Maximum accepted sessions per authenticated principal, see Identity. 0: no
  // limit of its own.
  int max_sessions_per_identity = 0;
  // Data connections that have not named their session yet. Also: control
  // connections that have said nothing yet; of those that have, there may be
  // max_sessions + max_handshakes.
  int max_handshakes = 256;
  // Data connections from one other host that have not named their session yet.
  int max_handshakes_per_address = 128;
  int max_connections_per_session = 256;  // data connections
  // Where callbacks and handlers run, and the peer's own digests, memory for
  // large messages and deserialisation. Null: a pool of two threads of the
  // peer's. So do not block there: hand over to a thread of yours, or pass an
  // executor that has threads enough. This, the clock and the registries must
  // outlive the peer. With an executor of your own, callbacks that are queued
  // there may run after ~Peer, and ~Peer needs a thread of it: do not destroy
  // the peer in a task of yours on its only one.
  Executor* executor = nullptr;
  Clock* clock = Clock::Real();
  // Tensors of 256 KiB and more are received into memory that is kept for the
  // next ones: up to so many bytes, those that users still hold included; what
  // goes beyond gets libtorch's memory, which is slower. nullopt: a quarter of
  // the machine's or of the control group's memory, with the other peers of
  // this process that name no number; 0: none.
  std::optional<uint64_t> pool_bytes;
  const ConverterRegistry* converters = nullptr;  // null: the global one
  const BackendRegistry* backends = nullptr;      // null: the global one
  // More services for the peer's own server (the catalog's, say). They have to
  // ask the Access who calls and what he may. Synchronous ones share 32
  // threads.
  std::vector<
      std::function<void(grpc::ServerBuilder&, std::shared_ptr<const Access>)>>
      mount;
};

// A process's endpoint: speaks the control plane, accepts sessions and opens
// them. Thread-safe. Many peers may live in one process. A child after fork has
// none: in there every call on a peer, a session or an operation of the parent
// answers FAILED_PRECONDITION or does nothing, and destroying them too.
//
//   auto peer = Peer::Create({.name = "trainer"});
//   (*peer)->Accept([](std::shared_ptr<Session> session) { ... });
class Peer {
 public:
  // INVALID_ARGUMENT: an option, named, or a file of `security`; the system's
  // error for one that cannot be read. UNAVAILABLE: the address is in use or
  // not ours. RESOURCE_EXHAUSTED: no threads, descriptors or memory.
  // FAILED_PRECONDITION: the process has another tensorpipe than ours was
  // written for, see third_party/README.md. INTERNAL: the system gives no
  // random bytes.
  static absl::StatusOr<std::unique_ptr<Peer>> Create(PeerOptions options);

  // As Create, on a gRPC server of your own: call it before the server is
  // built. At the end: Shutdown of the peer, then of the server, then destroy
  // the peer. options.control is not listened on: control_address() reports it
  // if it was set, and is empty otherwise. Health, reflection and TLS are the
  // server's affair: of `security` the tokens, the authorizer and the wish for
  // client certificates count. Without them whoever reaches that server may do
  // everything.
  static absl::StatusOr<std::unique_ptr<Peer>> CreateOn(
      grpc::ServerBuilder& builder, PeerOptions options);

  // Shutdown without draining. In a callback it returns at once, and the peer
  // ends soon afterwards, after those that were dropped so before it, on a
  // thread that exit waits for: what its options point to must live until then.
  virtual ~Peer() = default;

  virtual const PeerId& id() const = 0;
  // "127.0.0.1:40411", with the real port; empty if it listens nowhere.
  virtual const std::string& control_address() const = 0;
  virtual Capabilities GetCapabilities() const = 0;  // as callers are told

  // Sessions that others open are given to `on_session` from now on; before
  // that they are refused with UNAVAILABLE. Runs on the executor. Dropping the
  // session closes it; so does what `on_session` throws, with INTERNAL.
  virtual void Accept(
      std::function<void(std::shared_ptr<Session>)> on_session) = 0;

  // Negotiates with the peer at `address` and opens a session, within
  // `timeout`, or once a device has made the session's streams, if that takes
  // longer (it holds up this peer's other calls of Connect too). The callee's
  // and the transport's statuses come through; FAILED_PRECONDITION names both
  // epochs if the offer expected another one.
  virtual void Connect(std::string address, Offer offer, absl::Duration timeout,
                       Done<std::shared_ptr<Session>> done) = 0;

  // What Connect would be answered, without opening anything.
  virtual void Explain(std::string address, Offer offer, absl::Duration timeout,
                       Done<Explanation> done) = 0;

  virtual std::vector<SessionRecord> ListSessions() = 0;  // accepted ones

  // No new sessions; those open are drained for up to `drain` and then closed.
  // Idempotent; every `done` runs.
  virtual void Shutdown(absl::Duration drain, DoneStatus done) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_PEER_H_
