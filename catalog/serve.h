#ifndef TENSORFERRY_CATALOG_SERVE_H_
#define TENSORFERRY_CATALOG_SERVE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/home_process.h"
#include "catalog/catalog.h"
#include "catalog/named_tensors.h"
#include "session/peer.h"
#include "session/session.h"

namespace tensorferry {

// One pull or push that was answered, for logs.
struct ServedRequest {
  std::string what;      // "pull", "push"
  std::string bundle;    // empty: all; as the peer wrote it
  std::string peer;      // who asked, as it calls itself
  std::string identity;  // as was proved; empty: anonymous
  uint64_t nbytes = 0;
  absl::Status status;
};

struct CatalogServerOptions {
  // What becomes of tensors that another peer pushes: returns what is published
  // as the bundle's next version, or the error that refuses them. Unset: pushes
  // are refused with PERMISSION_DENIED before their tensors are sent.
  // Called on a thread of the server's, one push after the other. What it
  // throws refuses the push with INTERNAL.
  std::function<absl::StatusOr<NamedTensors>(const std::string& bundle,
                                             NamedTensors)>
      accept_push;
  // Bytes of pushes that were received and wait for accept_push, the one that
  // it has included, with the memory that their metadata takes. What would be
  // more is refused with RESOURCE_EXHAUSTED, before its tensors are sent if
  // that is known by then; alone a push may be larger.
  uint64_t max_queued_push_bytes = uint64_t{4} << 30;
  // Whether a push of `nbytes` would be taken; an error refuses it before its
  // tensors are sent. Unset: it would. On any thread, several at once.
  std::function<absl::Status(const std::string& bundle, uint64_t nbytes)>
      check_push;
  // Is told of each once, with the status that its answer had or the reason
  // why that could not be sent. On any thread; be short. What it throws is
  // dropped.
  std::function<void(const ServedRequest&)> on_served;
};

// Lets other peers list, pull from and push to a catalog.
//
//   Catalog catalog;
//   CatalogServer server(&catalog, {});
//   PeerOptions options = {.name = "trainer"};
//   server.MountOn(options);
//   auto peer = Peer::Create(std::move(options));
//   (*peer)->Accept([&](auto session) { server.Serve(std::move(session)); });
//
// `catalog` must outlive the server, the server the peer. In a child after fork
// the parent's server serves nothing, and its destructor does nothing.
class CatalogServer {
 public:
  CatalogServer(Catalog* catalog, CatalogServerOptions options);
  ~CatalogServer();  // ends the sessions that it serves

  // Adds the Catalog service to the peer that will be made from `options`.
  void MountOn(PeerOptions& options);

  // Answers the pulls and pushes of a session, and keeps it until it ends. A
  // pull is answered from one moment's versions, also when newer ones are
  // published while it runs. From a peer that may push nothing at this moment
  // no push is ever received on this session.
  // FAILED_PRECONDITION: something else handles these messages already, or this
  // is a child after fork. If the session has ended, what Session::Handle says
  // of that.
  absl::Status Serve(std::shared_ptr<Session> session);

 private:
  class State;
  const HomeProcess home_;
  std::shared_ptr<State> state_;  // shared with the sessions' handlers
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_SERVE_H_
