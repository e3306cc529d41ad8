#include "transport/dial_context.h"

#include <stdexcept>
#include <utility>

#include "transport/dialer.h"

namespace tensorferry {
namespace {

class DialContext final : public SessionContext {
 public:
  DialContext(std::shared_ptr<HubState> hub, SessionKey session,
              DataAddress address, ContextEvents events)
      : SessionContext(std::move(hub), std::move(session), std::move(events)),
        address_(std::move(address)),
        next_number_(this->hub().NextNumberOf(this->session().session_id)) {}

  // What tensorpipe says comes from the peer and is not looked at.
  std::shared_ptr<tensorpipe::transport::Connection> connect(
      std::string) override {
    std::shared_ptr<Connection> connection = NewConnection(/*accepted=*/false);
    if (closed()) {
      connection->Close();
      return MakeHandle(std::move(connection));
    }
    auto dialer = std::make_shared<Dialer>(
        loop(),
        Dialer::Target{.address = address_,
                       .session = session(),
                       .next_number = next_number_,
                       .timeout = hub().options.handshake_timeout},
        connection);
    loop()->Post([dialer] { dialer->Start(); });
    return MakeHandle(std::move(connection));
  }

  // Called by tensorpipe::Context::listen, where the user hears it.
  std::shared_ptr<tensorpipe::transport::Listener> listen(
      std::string) override {
    throw std::logic_error("a context of Hub::Dial does not listen");
  }

 private:
  void OnClose() override {}

  const DataAddress address_;
  const std::shared_ptr<HubState::NextNumber> next_number_;
};

}  // namespace

std::shared_ptr<tensorpipe::transport::Context> MakeDialContext(
    std::shared_ptr<HubState> hub, SessionKey session, DataAddress address,
    ContextEvents events) {
  return std::make_shared<DialContext>(std::move(hub), std::move(session),
                                       std::move(address), std::move(events));
}

}  // namespace tensorferry
