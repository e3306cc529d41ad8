#include "tests/control/test_peers.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "control/access.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

namespace tensorferry {
namespace testing {
void HeardEvents::OnOpened() {
  Enter();
  Leave(&HeardEvents::opened_);
}

void HeardEvents::OnDrain() {
  Enter();
  Leave(&HeardEvents::drains_);
}

void HeardEvents::OnStreamEnded(absl::Status why) {
  Enter();
  Leave(&HeardEvents::ends_, std::move(why));
}

void HeardEvents::Enter() {
  absl::MutexLock lock(&mu_);
  EXPECT_FALSE(in_call_) << "two calls at once";
  EXPECT_EQ(ends_, 0) << "a call after OnStreamEnded";
  in_call_ = true;
}

void HeardEvents::Leave(int HeardEvents::*count, absl::Status why) {
  absl::MutexLock lock(&mu_);
  in_call_ = false;
  ++(this->*count);
  why_ = std::move(why);
}

void HeardEvents::Await(int HeardEvents::*count, absl::string_view what) {
  auto happened = [&] { return this->*count > 0; };
  absl::MutexLock lock(&mu_);
  EXPECT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&happened), kPatience))
      << "no " << std::string(what);
}

void HeardEvents::AwaitOpened() { Await(&HeardEvents::opened_, "OnOpened"); }

void HeardEvents::AwaitDrain() { Await(&HeardEvents::drains_, "OnDrain"); }

absl::Status HeardEvents::AwaitEnd() {
  Await(&HeardEvents::ends_, "OnStreamEnded");
  absl::MutexLock lock(&mu_);
  return why_;
}

bool HeardEvents::ended() const {
  absl::MutexLock lock(&mu_);
  return ends_ > 0;
}

FakeHost::FakeHost(Capabilities capabilities, Policy policy)
    : capabilities_(std::move(capabilities)), policy_(std::move(policy)) {}

Capabilities FakeHost::GetCapabilities() { return capabilities_; }

Policy FakeHost::GetPolicy() { return policy_; }

absl::StatusOr<SessionHost::Admitted> FakeHost::Admit(
    const std::string& session_id, const SessionPlan& plan,
    const Identity& caller, std::shared_ptr<ControlStream> stream) {
  if (open_at_once) stream->SendOpened();
  if (goodbye_at_once) stream->SendGoodbye(absl::AbortedError("not today"));
  if (!admit_status.ok()) return admit_status;
  Admitted admitted;
  admitted.ticket = {session_id, {"tcp://127.0.0.1:1"}, std::string(16, 'k')};
  auto events = std::make_shared<HeardEvents>();
  admitted.events = events;
  absl::MutexLock lock(&mu_);
  sessions_[session_id] = {plan, caller, std::move(stream), std::move(events)};
  return admitted;
}

std::pair<uint64_t, uint64_t> FakeHost::BytesMoved(const std::string&) {
  return {11, 22};
}

FakeHost::Session FakeHost::Of(const std::string& session_id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(session_id);
  if (session == sessions_.end()) {
    ADD_FAILURE() << "not admitted: " << session_id;
    std::abort();
  }
  return session->second;
}

int FakeHost::admitted() {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(sessions_.size());
}

bool FakeHost::AllEnded() {
  absl::MutexLock lock(&mu_);
  for (const auto& [id, session] : sessions_) {
    if (!session.events->ended()) return false;
  }
  return true;
}

TestServer::TestServer(SessionHost* host, ControlServiceOptions options) {
  if (options.access == nullptr) options.access = Access::Everybody();
  control_ = std::make_unique<ControlService>(host, options);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  control_->RegisterOn(builder);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) std::abort();
  address_ = absl::StrCat("127.0.0.1:", port);
}

TestServer::~TestServer() {
  control_->Shutdown(absl::OkStatus());
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::seconds(30));
}

void TestServer::Kill() { server_->Shutdown(std::chrono::system_clock::now()); }

}  // namespace testing
}  // namespace tensorferry
