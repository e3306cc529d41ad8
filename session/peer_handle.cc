#include "session/peer_handle.h"

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/mutex.h"
#include "base/home_process.h"
#include "base/user_code.h"

namespace tensorferry {
namespace {

// One peer; a node of a list, which goes into another list without memory.
using OnePeer = std::list<std::unique_ptr<Peer>>;

// The thread of this process that destroys peers which were dropped where that
// would wait for itself. It is there before the first is dropped, so that a
// destructor needs nothing. Never destroyed: it is idle when the process exits.
class Reaper {
 public:
  // That of a parent is left alone in its child. Throws std::system_error if
  // there are no more threads.
  static Reaper& OfProcess();

  void Take(OnePeer peer);

 private:
  void Run();
  void AwaitIdle() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&idle_));
  }

  const HomeProcess home_;
  std::once_flag started_;
  absl::Mutex mu_;
  OnePeer waiting_ ABSL_GUARDED_BY(mu_);  // any number of them
  bool idle_ ABSL_GUARDED_BY(mu_) = true;
};

std::atomic<Reaper*> reaper_of_process = nullptr;

Reaper& Reaper::OfProcess() {
  Reaper* reaper = reaper_of_process;
  if (reaper == nullptr || !reaper->home_.IsThis()) {
    auto own = std::make_unique<Reaper>();
    if (reaper_of_process.compare_exchange_strong(reaper, own.get())) {
      reaper = own.release();
    }
  }
  std::call_once(reaper->started_, [reaper] {
    std::thread([reaper] { reaper->Run(); }).detach();
  });
  return *reaper;
}

void Reaper::Take(OnePeer peer) {
  // From here on exit waits: what a peer uses must not end before it.
  static const absl::Cleanup at_exit = [] {
    Reaper* const reaper = reaper_of_process;
    if (reaper->home_.IsThis()) reaper->AwaitIdle();
  };
  absl::MutexLock lock(&mu_);
  waiting_.splice(waiting_.end(), peer);
  idle_ = false;
}

void Reaper::Run() {
  const auto busy = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !waiting_.empty();
  };
  while (true) {
    OnePeer next;
    {
      absl::MutexLock lock(&mu_);
      idle_ = waiting_.empty();
      mu_.Await(absl::Condition(&busy));
      next.splice(next.end(), waiting_, waiting_.begin());
    }
  }
}

class PeerHandle final : public Peer {
 public:
  PeerHandle(std::unique_ptr<Peer> peer, Reaper& reaper) : reaper_(reaper) {
    held_.push_back(std::move(peer));
  }

  ~PeerHandle() override {
    if (!home_.IsThis()) {
      (void)held_.front().release();
    } else if (InUserCode()) {
      reaper_.Take(std::move(held_));
    }
  }

  const PeerId& id() const override { return peer().id(); }
  const std::string& control_address() const override {
    return peer().control_address();
  }
  Capabilities GetCapabilities() const override {
    if (home_.IsThis()) return peer().GetCapabilities();
    return {.peer = peer().id()};
  }
  void Accept(
      std::function<void(std::shared_ptr<Session>)> on_session) override {
    if (home_.IsThis()) peer().Accept(std::move(on_session));
  }
  void Connect(std::string address, Offer offer, absl::Duration timeout,
               Done<std::shared_ptr<Session>> done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer().Connect(std::move(address), std::move(offer), timeout,
                   std::move(done));
  }
  void Explain(std::string address, Offer offer, absl::Duration timeout,
               Done<Explanation> done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer().Explain(std::move(address), std::move(offer), timeout,
                   std::move(done));
  }
  std::vector<SessionRecord> ListSessions() override {
    return home_.IsThis() ? peer().ListSessions()
                          : std::vector<SessionRecord>();
  }
  void Shutdown(absl::Duration drain, DoneStatus done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer().Shutdown(drain, std::move(done));
  }

 private:
  Peer& peer() const { return *held_.front(); }

  const HomeProcess home_;
  Reaper& reaper_;
  OnePeer held_;
};

}  // namespace

std::unique_ptr<Peer> MakePeerHandle(std::unique_ptr<Peer> peer) {
  return std::make_unique<PeerHandle>(std::move(peer), Reaper::OfProcess());
}

}  // namespace tensorferry
