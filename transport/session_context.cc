#include "transport/session_context.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"

namespace tensorferry {

std::shared_ptr<HubState::NextNumber> HubState::NextNumberOf(
    const std::string& session_id) {
  absl::MutexLock lock(&mu_);
  absl::erase_if(next_numbers_,
                 [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<NextNumber>& known = next_numbers_[session_id];
  std::shared_ptr<NextNumber> next = known.lock();
  if (next == nullptr) known = next = std::make_shared<NextNumber>(1);
  return next;
}

SessionContext::SessionContext(std::shared_ptr<HubState> hub,
                               SessionKey session, ContextEvents events)
    : hub_(std::move(hub)),
      session_(std::move(session)),
      events_(std::move(events)) {}

// Both sides of a session have been told by the control plane to talk to each
// other, so there is nothing to tell apart here.
const std::string& SessionContext::domainDescriptor() const {
  static const auto* const domain = new std::string("tensorferry/1");
  return *domain;
}

// tensorpipe tells the name under which it was registered in this way only.
void SessionContext::setId(std::string id) {
  const std::string kBeforeName = ".tr_";
  const size_t at = id.rfind(kBeforeName);
  if (at == std::string::npos) return;
  absl::MutexLock lock(&mu_);
  transport_name_ = id.substr(at + kBeforeName.size());
}

void SessionContext::close() {
  std::vector<std::shared_ptr<Connection>> open;
  {
    absl::MutexLock lock(&mu_);
    if (std::exchange(closed_, true)) return;
    open.assign(connections_.begin(), connections_.end());
  }
  OnClose();
  for (auto& connection : open) connection->Close();
}

void SessionContext::join() {
  close();
  if (loop()->OnLoopThread()) return;
  absl::Notification through;
  loop()->Post([&] { through.Notify(); });
  through.WaitForNotification();
}

std::shared_ptr<Connection> SessionContext::NewConnection(bool accepted) {
  absl::MutexLock lock(&mu_);
  auto connection = std::make_shared<Connection>(
      loop(), hub_->options.max_packet_bytes,
      PacketGate(accepted, transport_name_, domainDescriptor()),
      shared_from_this());
  if (!closed_) connections_.insert(connection);
  return connection;
}

void SessionContext::OnOver(Connection* connection) {
  std::shared_ptr<Connection> over = connection->shared_from_this();
  absl::MutexLock lock(&mu_);
  connections_.erase(over);
}

int SessionContext::connections() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(connections_.size());
}

bool SessionContext::closed() const {
  absl::MutexLock lock(&mu_);
  return closed_;
}

void SessionContext::OnThrown(absl::Status why) {
  ++hub_->tensorpipe_threw;
  if (std::exchange(wedged_, true)) return;
  if (events_.on_wedged != nullptr) events_.on_wedged(std::move(why));
}

}  // namespace tensorferry
