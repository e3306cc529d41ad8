#include "tests/reliability/tcp_proxy.h"

#include <poll.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace testing {

constexpr int kTurnMs = 20;  // how soon the thread sees what it was told

TcpProxy::TcpProxy(ListeningSocket target, Tamper tamper)
    : target_(std::move(target)),
      tamper_(std::move(tamper)),
      thread_([this] { Work(); }) {}

TcpProxy::~TcpProxy() {
  stopping_ = true;
  thread_.join();
}

std::string TcpProxy::address() const {
  return absl::StrCat("127.0.0.1:", port());
}

void TcpProxy::Reset() {
  absl::MutexLock lock(&mu_);
  EndAll();
}

void TcpProxy::Freeze() { frozen_ = true; }

void TcpProxy::Refuse() {
  refusing_ = true;
  Reset();
}

void TcpProxy::EndAll() {
  for (Relay& relay : relays_) {
    relay.dialer.Reset();
    relay.target.Reset();
  }
  relays_.clear();
}

void TcpProxy::Work() {
  while (!stopping_) {
    std::vector<pollfd> waiting = {{.fd = listener_.fd(), .events = POLLIN}};
    if (!frozen_) {
      absl::MutexLock lock(&mu_);
      for (const Relay& relay : relays_) {
        waiting.push_back({.fd = relay.dialer.fd(), .events = POLLIN});
        waiting.push_back({.fd = relay.target.fd(), .events = POLLIN});
      }
    }
    if (poll(waiting.data(), waiting.size(), kTurnMs) <= 0) continue;
    if (waiting[0].revents != 0) TakeOne();
    if (frozen_) continue;
    absl::MutexLock lock(&mu_);
    for (size_t i = 1; i < waiting.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      for (Relay& relay : relays_) {
        if (relay.over) continue;
        if (relay.dialer.fd() == waiting[i].fd) Pass(relay, true);
        if (relay.target.fd() == waiting[i].fd) Pass(relay, false);
      }
    }
    relays_.remove_if([](const Relay& relay) { return relay.over; });
  }
}

void TcpProxy::TakeOne() {
  absl::StatusOr<RawSocket> dialer = listener_.Accept(absl::ZeroDuration());
  if (!dialer.ok()) return;
  if (refusing_) return dialer->Reset();
  absl::StatusOr<RawSocket> target = RawSocket::Connect(target_);
  if (!target.ok()) return dialer->Reset();
  absl::MutexLock lock(&mu_);
  relays_.push_back({.dialer = *std::move(dialer),
                     .target = *std::move(target),
                     .number = accepted_++});
}

void TcpProxy::Pass(Relay& relay, bool from_dialer) {
  RawSocket& from = from_dialer ? relay.dialer : relay.target;
  RawSocket& to = from_dialer ? relay.target : relay.dialer;
  std::string bytes = from.Read(1 << 16, absl::ZeroDuration());
  if (bytes.empty()) {
    relay.over = true;
    return;
  }
  bool goes_on = true;
  if (from_dialer && tamper_ != nullptr) {
    const uint64_t offset =
        std::exchange(relay.offset, relay.offset + bytes.size());
    goes_on = tamper_(relay.number, offset, bytes);
  }
  relay.over = !to.Send(bytes) || !goes_on;
}

}  // namespace testing
}  // namespace tensorferry
