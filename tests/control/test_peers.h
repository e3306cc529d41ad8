// Peers for tests of control/: a host that is no real peer, a server.
#ifndef TENSORFERRY_TESTS_CONTROL_TEST_PEERS_H_
#define TENSORFERRY_TESTS_CONTROL_TEST_PEERS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "control/capabilities.h"
#include "control/control_service.h"
#include "control/control_stream.h"
#include "control/offer.h"
#include "control/session_host.h"
#include "grpcpp/server.h"
#include "tests/control/test_values.h"

namespace tensorferry {
namespace testing {

// Longer than any step takes, for waits that must end.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Hears a control stream. Fails the test if calls overlap or follow
// OnStreamEnded.
class HeardEvents : public ControlEvents {
 public:
  void OnOpened() override;
  void OnDrain() override;
  void OnStreamEnded(absl::Status why) override;

  void AwaitOpened();
  void AwaitDrain();
  absl::Status AwaitEnd();
  bool ended() const;

 private:
  void Enter();
  void Leave(int HeardEvents::*count, absl::Status why = absl::OkStatus());
  void Await(int HeardEvents::*count, absl::string_view what);

  mutable absl::Mutex mu_;
  bool in_call_ ABSL_GUARDED_BY(mu_) = false;
  int opened_ ABSL_GUARDED_BY(mu_) = 0;
  int drains_ ABSL_GUARDED_BY(mu_) = 0;
  int ends_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status why_ ABSL_GUARDED_BY(mu_);
};

// Stands in for session/: admits every plan and remembers it.
class FakeHost : public SessionHost {
 public:
  struct Session {
    SessionPlan plan;
    Identity caller;
    std::shared_ptr<ControlStream> stream;
    std::shared_ptr<HeardEvents> events;
  };

  explicit FakeHost(Capabilities capabilities, Policy policy = {});

  Capabilities GetCapabilities() override;
  Policy GetPolicy() override;
  absl::StatusOr<Admitted> Admit(
      const std::string& session_id, const SessionPlan& plan,
      const Identity& caller, std::shared_ptr<ControlStream> stream) override;
  std::pair<uint64_t, uint64_t> BytesMoved(
      const std::string& session_id) override;

  // Set these before anything is opened.
  absl::Status admit_status;
  bool open_at_once = false;     // SendOpened from within Admit
  bool goodbye_at_once = false;  // SendGoodbye from within Admit

  // Of an admitted session.
  Session Of(const std::string& session_id);
  int admitted();
  // Whether OnStreamEnded has run for all.
  bool AllEnded();

 private:
  const Capabilities capabilities_;
  const Policy policy_;
  absl::Mutex mu_;
  std::map<std::string, Session> sessions_ ABSL_GUARDED_BY(mu_);
};

// A ControlService on a server of its own, on a free port of 127.0.0.1. Without
// an Access, everybody may do everything.
class TestServer {
 public:
  explicit TestServer(SessionHost* host, ControlServiceOptions options = {});
  ~TestServer();

  const std::string& address() const { return address_; }
  ControlService& control() { return *control_; }
  // Without a goodbye to anybody.
  void Kill();

 private:
  std::unique_ptr<ControlService> control_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

// Waits for a call that ends with a Done.
template <class T>
absl::StatusOr<T> Await(absl::FunctionRef<void(Done<T>)> start) {
  absl::Mutex mu;
  std::optional<absl::StatusOr<T>> result;
  int calls = 0;
  start([&](absl::StatusOr<T> got) {
    absl::MutexLock lock(&mu);
    result = std::move(got);
    ++calls;
  });
  auto done = [&] { return calls > 0; };
  absl::MutexLock lock(&mu);
  if (!mu.AwaitWithTimeout(absl::Condition(&done), kPatience)) std::abort();
  return *std::move(result);
}

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CONTROL_TEST_PEERS_H_
