#ifndef TENSORFERRY_TRANSPORT_SESSION_CONTEXT_H_
#define TENSORFERRY_TRANSPORT_SESSION_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/connection.h"
#include "transport/hub.h"

namespace tensorferry {

// What the contexts of a hub share and may outlive it.
struct HubState {
  explicit HubState(HubOptions o) : options(std::move(o)) {}

  // The number of a session's next dialed connection. Each is good once, so
  // they go on from wire to wire for as long as one of its contexts holds this.
  using NextNumber = std::atomic<uint64_t>;
  std::shared_ptr<NextNumber> NextNumberOf(const std::string& session_id);

  const HubOptions options;
  std::atomic<uint64_t> accepted{0}, refused{0}, broken_frames{0},
      tensorpipe_threw{0};

 private:
  absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<NextNumber>> next_numbers_
      ABSL_GUARDED_BY(mu_);
};

// One session's side of the hub, as a transport of tensorpipe: owns its
// connections. The two kinds of context derive from it.
class SessionContext : public tensorpipe::transport::Context,
                       public Connection::Owner,
                       public std::enable_shared_from_this<SessionContext> {
 public:
  SessionContext(std::shared_ptr<HubState> hub, SessionKey session,
                 ContextEvents events);

  bool isViable() const override { return true; }
  const std::string& domainDescriptor() const override;
  void setId(std::string id) override;
  void close() override;
  void join() override;

  void OnOver(Connection* connection) override;
  void OnBrokenFrame() override { ++hub_->broken_frames; }
  void OnThrown(absl::Status why) override;

  // A connection of this context, already failed if that is closed.
  std::shared_ptr<Connection> NewConnection(bool accepted);
  int connections() const;
  bool closed() const;

  const SessionKey& session() const { return session_; }
  HubState& hub() const { return *hub_; }
  PollLoop* loop() const { return hub_->options.loop; }

 private:
  // Once, on the thread that closes.
  virtual void OnClose() = 0;

  const std::shared_ptr<HubState> hub_;
  const SessionKey session_;
  const ContextEvents events_;

  mutable absl::Mutex mu_;
  std::string transport_name_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<std::shared_ptr<Connection>> connections_
      ABSL_GUARDED_BY(mu_);
  bool wedged_ = false;  // on the loop
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_SESSION_CONTEXT_H_
