#ifndef TENSORFERRY_TRANSPORT_DIALER_H_
#define TENSORFERRY_TRANSPORT_DIALER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "transport/byte_stream.h"
#include "transport/connection.h"
#include "transport/data_address.h"
#include "transport/handshake.h"
#include "transport/poll_loop.h"
#include "transport/session_context.h"
#include "transport/session_key.h"

namespace tensorferry {

// Connects to a hub, proves the key, and opens or fails a connection with that.
// All on the loop. Keeps itself alive until then.
class Dialer final : public PollLoop::Watcher,
                     public std::enable_shared_from_this<Dialer> {
 public:
  struct Target {
    DataAddress address;
    SessionKey session;
    // Each attempt takes one: a hello that nobody answered may have been heard.
    std::shared_ptr<HubState::NextNumber> next_number;
    absl::Duration timeout;
  };
  Dialer(PollLoop* loop, Target target, std::shared_ptr<Connection> connection);

  void Start();

 private:
  enum class Step { kConnect, kPrepare, kHandshake };

  void OnReady(uint32_t events) override;
  void Attempt();
  void Advance();
  absl::StatusOr<bool> Connected();
  absl::StatusOr<bool> Take();  // the next step; whether it is through
  absl::Status StartHandshake();
  void OnError(absl::Status why);
  void RetryLater(absl::Duration wait);
  void Drop();
  void End(absl::Status why);

  PollLoop* const loop_;
  const Target target_;
  const std::shared_ptr<Connection> connection_;
  PollLoop::TimerId deadline_ = 0, retry_ = 0;
  PollLoop::WatchId watch_ = 0;
  bool ended_ = false;

  // Of this attempt.
  Step step_ = Step::kConnect;
  int closed_on_us_ = 0;  // attempts that the peer closed without a word
  std::optional<PeerProcess> peer_;
  std::unique_ptr<ByteStream> stream_;
  std::unique_ptr<ClientHandshake> handshake_;
  size_t sent_ahead_ = 0;  // with it
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_DIALER_H_
