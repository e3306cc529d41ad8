#include "benchmarks/two_process/receiver_process.h"

#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "benchmarks/two_process/bare.h"
#include "benchmarks/two_process/contestant.h"
#include "benchmarks/two_process/ferry.h"
#include "benchmarks/two_process/process_usage.h"
#include "benchmarks/two_process/workload.h"
#include "session/peer.h"
#include "tests/testing/child_process.h"

namespace tensorferry::benchmarks {
namespace {

using ::tensorferry::testing::WriteLine;

// Sessions that were accepted and that nobody has asked for yet.
class AcceptedSessions {
 public:
  void Add(std::shared_ptr<Session> session) {
    absl::MutexLock lock(&mu_);
    sessions_.push_back(std::move(session));
  }

  std::shared_ptr<Session> Next() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](std::deque<std::shared_ptr<Session>>* s) { return !s->empty(); },
        &sessions_));
    auto session = std::move(sessions_.front());
    sessions_.pop_front();
    return session;
  }

 private:
  absl::Mutex mu_;
  std::deque<std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mu_);
};

class ReceivingProcess {
 public:
  explicit ReceivingProcess(std::string model) : model_(std::move(model)) {}

  absl::Status Start() {
    PeerOptions options;
    options.name = "receiver";
    FERRY_ASSIGN_OR_RETURN(peer_, Peer::Create(std::move(options)));
    peer_->Accept([this](std::shared_ptr<Session> session) {
      accepted_.Add(std::move(session));
    });
    std::string line = peer_->control_address();
    for (const std::string& path : BenchmarkPaths()) {
      listeners_[path] = BareListener::Create(path);
      absl::StrAppend(&line, " ", listeners_[path]->url());
    }
    WriteLine(line);
    return absl::OkStatus();
  }

  absl::Status Obey(const std::string& line) {
    std::istringstream words(line);
    std::string verb, contestant, path, memory;
    int messages = 0;
    words >> verb;
    if (verb == "load" && words >> contestant) return Load(contestant);
    words >> contestant >> path;
    if (verb == "connect" && words) return Connect(contestant, path);
    words >> memory >> messages;
    if (verb == "turn" && words) {
      return TakeTurn(contestant, path, memory == "reuse", messages);
    }
    return absl::InvalidArgumentError(absl::StrCat("what is '", line, "'?"));
  }

 private:
  absl::Status Connect(const std::string& contestant, const std::string& path) {
    auto& receiver = receivers_[{contestant, path}];
    if (contestant == "bare" || contestant == "bare_packed") {
      FERRY_ASSIGN_OR_RETURN(
          receiver, listeners_[path]->Accept(contestant == "bare_packed"));
    } else {
      receiver = MakeFerryReceiver(
          accepted_.Next(),
          {.leases = absl::StartsWith(contestant, "ferry_lease"),
           .read = contestant == "ferry_lease_read"});
    }
    WriteLine("connected");
    return absl::OkStatus();
  }

  absl::Status Load(const std::string& workload) {
    own_ = {};
    FERRY_ASSIGN_OR_RETURN(Contents contents, Fill(workload, model_));
    own_ = LikeThose(contents);
    WriteLine("loaded");
    return absl::OkStatus();
  }

  absl::Status TakeTurn(const std::string& contestant, const std::string& path,
                        bool reuse, int messages) {
    Receiver* receiver = receivers_[{contestant, path}].get();
    // Last turn's bytes must not pass for this one's.
    if (reuse) Scribble(own_.tensors, ++turn_);
    std::vector<at::Tensor> taken;
    const ProcessUsage before = ProcessUsage::Now();
    for (int i = 0; i < messages; ++i) {
      taken.clear();  // while nothing is under way
      receiver->Arm(own_, reuse);
      WriteLine("armed");
      FERRY_ASSIGN_OR_RETURN(taken, receiver->Take());
    }
    const ProcessUsage each = ProcessUsage::Now().Each(before, messages);
    WriteLine(absl::StrCat("took ", each.cpu_seconds, " ",
                           each.context_switches, " ", Fingerprint(taken)));
    return absl::OkStatus();
  }

  const std::string model_;
  AcceptedSessions accepted_;
  std::unique_ptr<Peer> peer_;
  std::map<std::string, std::unique_ptr<BareListener>> listeners_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Receiver>>
      receivers_;
  Contents own_;
  uint8_t turn_ = 0;
};

}  // namespace

int RunReceiver(const std::string& model) {
  ReceivingProcess process(model);
  absl::Status status = process.Start();
  std::string line;
  while (status.ok() && std::getline(std::cin, line)) {
    status = process.Obey(line);
  }
  if (status.ok()) return 0;
  WriteLine(absl::StrCat("error ", status.ToString()));
  return 1;
}

}  // namespace tensorferry::benchmarks
