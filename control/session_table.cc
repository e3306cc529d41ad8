#include "control/session_table.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/random_bytes.h"
#include "base/status_macros.h"

namespace tensorferry {

absl::Status NoSuchSession(const std::string& id) {
  return absl::NotFoundError(absl::StrCat(
      "no session \"", absl::Utf8SafeCEscape(id.substr(0, 64)), "\" here"));
}

absl::StatusOr<std::string> SessionTable::RandomId() {
  char bytes[16];
  FERRY_RETURN_IF_ERROR(RandomBytes(bytes, sizeof(bytes)));
  return absl::BytesToHexString(absl::string_view(bytes, sizeof(bytes)));
}

SessionTable::SessionTable(Clock* clock, absl::Duration lease, int max_sessions,
                           NewId new_id)
    : clock_(clock),
      lease_(lease),
      max_sessions_(max_sessions),
      new_id_(std::move(new_id)) {}

absl::StatusOr<std::string> SessionTable::Add(const SessionPlan& plan,
                                              const Identity& caller,
                                              int most) {
  SessionRecord record;
  FERRY_ASSIGN_OR_RETURN(record.id, new_id_());
  record.plan = plan;
  record.identity = ToString(caller);
  record.opened_at = clock_->Now();
  record.lease_until = record.opened_at + lease_;
  absl::MutexLock lock(&mu_);
  if (sessions_.size() >= static_cast<size_t>(max_sessions_)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "callee \"", plan.callee.name, "\" has ", sessions_.size(),
        " sessions, its limit (max_sessions); close one or raise it there"));
  }
  const IdentityCounts::Count own = counts_.Most(caller);
  if (own.count >= most) {
    return absl::ResourceExhaustedError(absl::StrCat(
        own.principal, " has ", own.count, " sessions with callee \"",
        plan.callee.name,
        "\", its limit (sessions of its policy, or sessions_per_identity); "
        "close one or have it raised there"));
  }
  std::string id = record.id;
  sessions_.emplace(id, Row{std::move(record), caller});
  counts_.Add(caller);
  return id;
}

absl::Status SessionTable::MarkOpen(const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  if (session->second.record.state != SessionState::kOpening) {
    return absl::FailedPreconditionError(
        absl::StrCat("session ", id, " is no longer opening"));
  }
  session->second.record.state = SessionState::kOpen;
  return absl::OkStatus();
}

absl::Status SessionTable::MarkDraining(const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  session->second.record.state = SessionState::kDraining;
  return absl::OkStatus();
}

absl::Status SessionTable::Renew(const std::string& id) {
  absl::Time until = clock_->Now() + lease_;
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  session->second.record.lease_until = until;
  return absl::OkStatus();
}

absl::Status SessionTable::Remove(const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  Erase(session);
  return absl::OkStatus();
}

SessionTable::Rows::iterator SessionTable::Erase(Rows::iterator row) {
  counts_.Remove(row->second.caller);
  return sessions_.erase(row);
}

std::vector<SessionRecord> SessionTable::List() const {
  absl::MutexLock lock(&mu_);
  std::vector<SessionRecord> records;
  for (const auto& [id, row] : sessions_) records.push_back(row.record);
  return records;
}

absl::Time SessionTable::NextExpiry() const {
  absl::Time next = absl::InfiniteFuture();
  absl::MutexLock lock(&mu_);
  for (const auto& [id, row] : sessions_) {
    next = std::min(next, row.record.lease_until);
  }
  return next;
}

std::vector<SessionRecord> SessionTable::TakeExpired() {
  absl::Time now = clock_->Now();
  std::vector<SessionRecord> expired;
  absl::MutexLock lock(&mu_);
  for (auto session = sessions_.begin(); session != sessions_.end();) {
    if (session->second.record.lease_until > now) {
      ++session;
      continue;
    }
    expired.push_back(std::move(session->second.record));
    session = Erase(session);
  }
  return expired;
}

}  // namespace tensorferry
