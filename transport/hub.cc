#include "transport/hub.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "base/status_macros.h"
#include "transport/accept_context.h"
#include "transport/dial_context.h"
#include "transport/door.h"
#include "transport/hub_error.h"
#include "transport/tensorpipe_abi.h"

namespace tensorferry {
namespace {

absl::Status CheckSession(const SessionKey& session) {
  if (session.session_id.empty() ||
      session.session_id.size() > SessionKey::kLongestId) {
    return absl::InvalidArgumentError(
        absl::StrCat("session id of ", session.session_id.size(),
                     " bytes, want 1 to ", SessionKey::kLongestId));
  }
  if (session.key.size() != SessionKey::kKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("session key of ", session.key.size(), " bytes, want ",
                     SessionKey::kKeyBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckHost(absl::string_view name, const std::string& host) {
  const bool v6 = host.find(':') != std::string::npos;
  if (ParseDataAddress(
          absl::StrCat("tcp://", v6 ? "[" : "", host, v6 ? "]:1" : ":1"))
          .ok()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      std::string(name), " '", host, "' is no IPv4 or IPv6 number"));
}

absl::Status CheckOptions(const HubOptions& options) {
  if (options.loop == nullptr) return absl::InvalidArgumentError("no loop");
  if (!options.host.empty()) {
    FERRY_RETURN_IF_ERROR(CheckHost("host", options.host));
  }
  if (!options.advertise.empty()) {
    FERRY_RETURN_IF_ERROR(CheckHost("advertise", options.advertise));
  } else if (options.host == "0.0.0.0" || options.host == "::") {
    return absl::InvalidArgumentError(
        absl::StrCat("host ", options.host,
                     " is every interface: say which address to advertise"));
  }
  if (options.lowest_port > options.highest_port ||
      (options.lowest_port == 0) != (options.highest_port == 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("ports ", options.lowest_port, " to ",
                     options.highest_port, " are no range"));
  }
  if (options.max_handshakes < 1 || options.max_handshakes_per_address < 1 ||
      options.max_connections_per_session < 1 ||
      options.max_packet_bytes < Incoming::kLongestFirstFrame ||
      options.handshake_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "handshakes, connections, timeout and packets of a hub need room");
  }
  return absl::OkStatus();
}

class SocketHub final : public Hub {
 public:
  explicit SocketHub(HubOptions options)
      : state_(std::make_shared<HubState>(std::move(options))),
        door_(std::make_shared<Door>(state_)) {}

  ~SocketHub() override {
    PollLoop* loop = state_->options.loop;
    if (loop->OnLoopThread()) {
      door_->Stop();
      return;
    }
    absl::Notification stopped;
    loop->Post([&] {
      door_->Stop();
      stopped.Notify();
    });
    stopped.WaitForNotification();
  }

  absl::StatusOr<Expected> Expect(const SessionKey& session,
                                  const std::vector<Wire>& wires,
                                  absl::Time unused_until,
                                  ContextEvents events) override {
    FERRY_RETURN_IF_ERROR(CheckSession(session));
    FERRY_ASSIGN_OR_RETURN(auto addresses, door_->ListenOn(wires));
    Expected expected{.listen = AcceptContext::kListen};
    std::vector<Wire> taken;
    for (const DataAddress& address : addresses) {
      expected.addresses.push_back(ToString(address));
      taken.push_back(address.wire);
    }
    auto context = std::make_shared<AcceptContext>(
        state_, session, std::move(events),
        [door = std::weak_ptr<Door>(door_), id = session.session_id] {
          if (auto open = door.lock()) open->RemoveSession(id);
        });
    FERRY_RETURN_IF_ERROR(door_->AddSession(context, taken, unused_until));
    expected.context = std::move(context);
    return expected;
  }

  absl::StatusOr<std::shared_ptr<tensorpipe::transport::Context>> Dial(
      const SessionKey& session, const std::string& address,
      ContextEvents events) override {
    FERRY_RETURN_IF_ERROR(CheckSession(session));
    FERRY_ASSIGN_OR_RETURN(DataAddress to, ParseDataAddress(address));
    if (to.wire == Wire::kTcp && !IsLoopback(to) &&
        !state_->options.plaintext_to_hosts) {
      return absl::InvalidArgumentError(absl::StrCat(
          address,
          ": plain TCP to another host; use TLS or allow plaintext "
          "between hosts"));
    }
    return MakeDialContext(state_, session, std::move(to), std::move(events));
  }

  HubCounters counters() const override {
    return {.accepted = state_->accepted,
            .refused = state_->refused,
            .broken_frames = state_->broken_frames,
            .tensorpipe_threw = state_->tensorpipe_threw};
  }

 private:
  const std::shared_ptr<HubState> state_;
  const std::shared_ptr<Door> door_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Hub>> Hub::Create(HubOptions options) {
  FERRY_RETURN_IF_ERROR(CheckOptions(options));
  FERRY_RETURN_IF_ERROR(CheckTensorpipeAbi());
  return std::make_unique<SocketHub>(std::move(options));
}

absl::Status HubErrorStatus(const std::string& error_text) {
  return FromTensorpipeError(error_text);
}

}  // namespace tensorferry
