#ifndef TENSORFERRY_CONTROL_SESSION_TABLE_H_
#define TENSORFERRY_CONTROL_SESSION_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "control/identity.h"
#include "control/identity_counts.h"
#include "control/session_plan.h"

namespace tensorferry {

enum class SessionState { kOpening, kOpen, kDraining };

// One row of ListSessions.
struct SessionRecord {
  std::string id;
  SessionPlan plan;
  std::string identity;  // of the caller, as ToString has it
  SessionState state = SessionState::kOpening;
  absl::Time opened_at;
  absl::Time lease_until;  // passes without a heartbeat: the session ends
  uint64_t bytes_sent = 0, bytes_received = 0;
};

// NOT_FOUND, naming the id that somebody asked for.
absl::Status NoSuchSession(const std::string& id);

// The sessions that a callee has, each alive as long as its lease. Thread-safe.
class SessionTable {
 public:
  using NewId = std::function<absl::StatusOr<std::string>()>;
  // 16 random bytes in hex. INTERNAL: the system gives none.
  static absl::StatusOr<std::string> RandomId();

  SessionTable(Clock* clock, absl::Duration lease, int max_sessions,
               NewId new_id = RandomId);

  // A new id. RESOURCE_EXHAUSTED: max_sessions, or one of the principals of
  // `caller` has `most` already. Those of `new_id`.
  absl::StatusOr<std::string> Add(const SessionPlan& plan,
                                  const Identity& caller, int most);
  // All of these: NOT_FOUND: no such session.
  // FAILED_PRECONDITION: it is not opening any more.
  absl::Status MarkOpen(const std::string& id);
  absl::Status MarkDraining(const std::string& id);  // from any state
  absl::Status Renew(const std::string& id);         // a sign of life came
  absl::Status Remove(const std::string& id);

  std::vector<SessionRecord> List() const;
  // Removes and returns the sessions whose lease has passed.
  std::vector<SessionRecord> TakeExpired();
  // When the next lease passes, if there are no more signs of life. Never:
  // InfiniteFuture.
  absl::Time NextExpiry() const;

 private:
  struct Row {
    SessionRecord record;
    Identity caller;
  };
  using Rows = std::map<std::string, Row>;
  Rows::iterator Erase(Rows::iterator row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock* const clock_;
  const absl::Duration lease_;
  const int max_sessions_;
  const NewId new_id_;
  mutable absl::Mutex mu_;
  Rows sessions_ ABSL_GUARDED_BY(mu_);
  IdentityCounts counts_ ABSL_GUARDED_BY(mu_);  // of the rows
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_SESSION_TABLE_H_
