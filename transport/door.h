#ifndef TENSORFERRY_TRANSPORT_DOOR_H_
#define TENSORFERRY_TRANSPORT_DOOR_H_

#include <bitset>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "transport/accept_context.h"
#include "transport/incoming.h"
#include "transport/sockets.h"

namespace tensorferry {

// Numbers that may each be used once. Those far behind the highest so far count
// as used.
class UsedNumbers {
 public:
  bool Use(uint64_t number);  // whether it was not used before

 private:
  static constexpr uint64_t kWindow = 1024;

  uint64_t highest_ = 0;
  std::bitset<kWindow> used_;  // by number modulo the window
};

// The listening sockets of a hub and what is between them and the sessions.
class Door final : public Incoming::Door,
                   public std::enable_shared_from_this<Door> {
 public:
  explicit Door(std::shared_ptr<HubState> hub);

  // From any thread. Addresses for those of `wires` that can be listened on.
  // FAILED_PRECONDITION: none. RESOURCE_EXHAUSTED, UNAVAILABLE.
  absl::StatusOr<std::vector<DataAddress>> ListenOn(
      const std::vector<Wire>& wires);
  // From any thread. Connections with the key of `context` go to it.
  // ALREADY_EXISTS.
  absl::Status AddSession(std::shared_ptr<AcceptContext> context,
                          const std::vector<Wire>& wires,
                          absl::Time unused_until);
  void RemoveSession(const std::string& session_id);

  // On the loop. Nothing is taken any more.
  void Stop();

  std::unique_ptr<ByteStream> StreamFor(Incoming& incoming, Wire wire,
                                        UniqueFd& fd) override;
  std::variant<std::string, Refusal> FindKey(Incoming& incoming,
                                             const std::string& session_id,
                                             Wire wire) override;
  Refusal TakeNumber(const std::string& session_id, uint64_t number) override;
  void OnProved(Incoming& incoming) override;
  void OnFirstFrame(Incoming& incoming) override;
  void OnRefused(Incoming& incoming, absl::Status why) override;

 private:
  struct Session {
    std::shared_ptr<AcceptContext> context;
    std::vector<Wire> wires;
    PollLoop::TimerId unused = 0;  // 0 once a connection has proved the key
    UsedNumbers numbers;
  };
  // A listening socket and when it was not listened to.
  struct Socket : public PollLoop::Watcher {
    void OnReady(uint32_t events) override;

    Door* door = nullptr;
    DataAddress address;
    UniqueFd fd;
    PollLoop::WatchId watch = 0;
    PollLoop::TimerId resume = 0;
  };

  absl::StatusOr<DataAddress> SocketFor(Wire wire)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<Socket>> Open(Wire wire);
  void Attend(std::shared_ptr<Socket> socket);
  void ExpireUnused(const std::string& session_id);

  void AcceptAll(Socket& socket);
  void Admit(Socket& socket, UniqueFd fd);
  void PauseUntil(Socket& socket, absl::Time until);
  bool DropOneForLackOfDescriptors(Socket& socket);
  bool MakeRoom(Socket& socket);
  void MakeRoomFor(const std::string& host);
  int CountStrangers(absl::FunctionRef<bool(const Incoming&)> counts) const;
  bool EvictOldest(absl::FunctionRef<bool(const Incoming&)> which,
                   absl::string_view why);
  int CountOpening(const std::string& session_id, const Incoming& but) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(Incoming& incoming);

  PollLoop* loop() const { return hub_->options.loop; }

  const std::shared_ptr<HubState> hub_;

  absl::Mutex mu_;
  std::shared_ptr<Socket> unix_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Socket> tcp_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, Session> sessions_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;

  // On the loop.
  UniqueFd spare_;  // given up to take, and drop, what no other is left for
  std::list<std::shared_ptr<Incoming>>
      incoming_;  // not yet proved, oldest first
  // Those that proved their key and owe the first frame. Nobody evicts them.
  std::list<std::shared_ptr<Incoming>> proved_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_DOOR_H_
