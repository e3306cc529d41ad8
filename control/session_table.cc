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
                                              const std::string& identity,
                                              int most) {
  SessionRecord record;
  FERRY_ASSIGN_OR_RETURN(record.id, new_id_());
  record.plan = plan;
  record.identity = identity;
  record.opened_at = clock_->Now();
  record.lease_until = record.opened_at + lease_;
  absl::MutexLock lock(&mu_);
  if (sessions_.size() >= static_cast<size_t>(max_sessions_)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "callee \"", plan.callee.name, "\" has ", sessions_.size(),
        " sessions, its limit (max_sessions); close one or raise it there"));
  }
  const auto own = std::count_if(
      sessions_.begin(), sessions_.end(),
      [&](const auto& row) { return row.second.identity == identity; });
  if (own >= most) {
    return absl::ResourceExhaustedError(absl::StrCat(
        identity, " has ", own, " sessions with callee \"", plan.callee.name,
        "\", its limit (sessions of its policy, or sessions_per_identity); "
        "close one or have it raised there"));
  }
  std::string id = record.id;
  sessions_.emplace(id, std::move(record));
  return id;
}

absl::Status SessionTable::MarkOpen(const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  if (session->second.state != SessionState::kOpening) {
    return absl::FailedPreconditionError(
        absl::StrCat("session ", id, " is no longer opening"));
  }
  session->second.state = SessionState::kOpen;
  return absl::OkStatus();
}

absl::Status SessionTable::MarkDraining(const std::string& id) {
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  session->second.state = SessionState::kDraining;
  return absl::OkStatus();
}

absl::Status SessionTable::Renew(const std::string& id) {
  absl::Time until = clock_->Now() + lease_;
  absl::MutexLock lock(&mu_);
  auto session = sessions_.find(id);
  if (session == sessions_.end()) return NoSuchSession(id);
  session->second.lease_until = until;
  return absl::OkStatus();
}

absl::Status SessionTable::Remove(const std::string& id) {
  absl::MutexLock lock(&mu_);
  return sessions_.erase(id) > 0 ? absl::OkStatus() : NoSuchSession(id);
}

std::vector<SessionRecord> SessionTable::List() const {
  absl::MutexLock lock(&mu_);
  std::vector<SessionRecord> records;
  for (const auto& [id, record] : sessions_) records.push_back(record);
  return records;
}

absl::Time SessionTable::NextExpiry() const {
  absl::Time next = absl::InfiniteFuture();
  absl::MutexLock lock(&mu_);
  for (const auto& [id, record] : sessions_) {
    next = std::min(next, record.lease_until);
  }
  return next;
}

std::vector<SessionRecord> SessionTable::TakeExpired() {
  absl::Time now = clock_->Now();
  std::vector<SessionRecord> expired;
  absl::MutexLock lock(&mu_);
  for (auto session = sessions_.begin(); session != sessions_.end();) {
    if (session->second.lease_until > now) {
      ++session;
      continue;
    }
    expired.push_back(std::move(session->second));
    session = sessions_.erase(session);
  }
  return expired;
}

}  // namespace tensorferry
