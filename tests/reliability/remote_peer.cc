#include "tests/reliability/remote_peer.h"

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "tests/testing/becomes.h"

namespace tensorferry {
namespace testing {
namespace {

absl::StatusCode CodeOf(const std::string& name) {
  for (int code = 0; code <= 16; ++code) {
    const auto candidate = static_cast<absl::StatusCode>(code);
    if (absl::StatusCodeToString(candidate) == name) return candidate;
  }
  return absl::StatusCode::kUnknown;
}

// "CODE TEXT"
absl::Status StatusFrom(const std::string& line) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(line, absl::MaxSplits(' ', 1));
  return absl::Status(CodeOf(parts.first), parts.second);
}

bool AllThreadsStopped(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("State:", 0) == 0) {
      return line.find("T (stopped)") != std::string::npos;
    }
  }
  return true;  // gone
}

}  // namespace

absl::Status RemotePeer::Answer::status(absl::Duration within) {
  return peer_->WaitFor(number_, within).status;
}
std::string RemotePeer::Answer::text() {
  return peer_->WaitFor(number_, kPatience).text;
}
absl::Time RemotePeer::Answer::at() {
  return peer_->WaitFor(number_, kPatience).at;
}

absl::StatusOr<std::unique_ptr<RemotePeer>> RemotePeer::Start(
    const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"--peer"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  FERRY_ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::Start(all));
  FERRY_ASSIGN_OR_RETURN(std::string line, process.ReadLine());
  if (line.rfind("0 OK ", 0) != 0) return StatusFrom(line.substr(2));
  std::unique_ptr<RemotePeer> peer(new RemotePeer(std::move(process)));
  peer->address_ = line.substr(5);
  return peer;
}

RemotePeer::RemotePeer(ChildProcess process)
    : process_(std::move(process)), pid_(process_.pid()) {
  reader_ = std::thread([this] { ReadLines(); });
}

RemotePeer::~RemotePeer() {
  if (process_.pid() > 0) Kill();
  reader_.join();
}

RemotePeer::Answer RemotePeer::AskLine(const std::string& words) {
  const int64_t number = next_number_++;
  // A peer that is gone answers nothing, which the answer tells.
  process_.WriteLine(absl::StrCat(number, words)).IgnoreError();
  return Answer(this, number);
}

RemotePeer::Reply RemotePeer::WaitFor(int64_t number, absl::Duration within) {
  auto there = [&] { return gone_ || replies_.count(number) > 0; };
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(&there), within);
  auto found = replies_.find(number);
  if (found != replies_.end()) return found->second;
  return {absl::InternalError(gone_ ? "no answer: the peer is gone"
                                    : "no answer in time"),
          "", absl::InfiniteFuture()};
}

absl::StatusOr<RemotePeer::Event> RemotePeer::NextEvent(absl::string_view what,
                                                        absl::Duration within) {
  const std::string name(what);
  auto there = [&] { return events_.count(name) > 0; };
  absl::MutexLock lock(&mu_);
  if (!mu_.AwaitWithTimeout(absl::Condition(&there), within)) {
    return absl::DeadlineExceededError(absl::StrCat("no event '", what, "'"));
  }
  auto first = events_.lower_bound(name);
  Event event = first->second;
  events_.erase(first);
  return event;
}

void RemotePeer::Stop() {
  process_.Signal(SIGSTOP);
  Becomes([this] { return AllThreadsStopped(pid_); });
}

void RemotePeer::Continue() { process_.Signal(SIGCONT); }

void RemotePeer::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait();
}

int RemotePeer::Finish() {
  process_.CloseInput();
  return process_.Wait();
}

void RemotePeer::ReadLines() {
  for (auto line = process_.ReadLine(); line.ok(); line = process_.ReadLine()) {
    TakeLine(*line);
  }
  absl::MutexLock lock(&mu_);
  gone_ = true;
}

// "NUMBER CODE TEXT" or "0 WHAT SESSION CODE TEXT".
void RemotePeer::TakeLine(const std::string& line) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(line, absl::MaxSplits(' ', 1));
  int64_t number = 0;
  if (!absl::SimpleAtoi(parts.first, &number)) return;
  absl::MutexLock lock(&mu_);
  if (number != 0) {
    Reply reply = {StatusFrom(parts.second), "", absl::Now()};
    if (reply.status.ok()) {
      reply.text =
          parts.second.substr(std::min<size_t>(parts.second.size(), 3));
    }
    replies_[number] = reply;
    return;
  }
  const std::vector<std::string> words =
      absl::StrSplit(parts.second, absl::MaxSplits(' ', 2));
  if (words.size() < 3) return;
  Event event = {.status = StatusFrom(words[2]), .at = absl::Now()};
  if (!absl::SimpleAtoi(words[1], &event.session)) return;
  events_.emplace(words[0], event);
}

}  // namespace testing
}  // namespace tensorferry
