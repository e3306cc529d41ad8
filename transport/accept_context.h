#ifndef TENSORFERRY_TRANSPORT_ACCEPT_CONTEXT_H_
#define TENSORFERRY_TRANSPORT_ACCEPT_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transport/byte_stream.h"
#include "transport/session_context.h"

namespace tensorferry {

class SessionListener;

// The accepting half of a session: has one listener, which is given the
// connections that the hub let in.
class AcceptContext final : public SessionContext {
 public:
  // What tensorpipe::Context::listen is given, and tells the peer, who does
  // not look at it.
  static constexpr char kListen[] = "session";

  // `on_close`: once, from any thread.
  AcceptContext(std::shared_ptr<HubState> hub, SessionKey session,
                ContextEvents events, std::function<void()> on_close);

  std::shared_ptr<tensorpipe::transport::Connection> connect(
      std::string address) override;
  std::shared_ptr<tensorpipe::transport::Listener> listen(
      std::string address) override;

  // On the loop. `first_frame` is complete and well formed.
  void Deliver(std::unique_ptr<ByteStream> stream,
               std::vector<uint8_t> first_frame,
               std::optional<PeerProcess> peer);
  // On the loop. The listener fails; connections go on.
  void EndListening(absl::Status why);

 private:
  void OnClose() override;

  const std::function<void()> on_close_;
  const std::shared_ptr<SessionListener> listener_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_ACCEPT_CONTEXT_H_
