#include "session/peer_handle.h"

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/home_process.h"
#include "session/user_code.h"

namespace tensorferry {
namespace {

// Destroys peers on threads that the process waits for when it exits: what a
// peer uses must not end before it.
class Reaper {
 public:
  ~Reaper() {
    std::vector<std::thread> threads;
    {
      absl::MutexLock lock(&mu_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }
  void Take(std::unique_ptr<Peer> peer) {
    absl::MutexLock lock(&mu_);
    threads_.emplace_back([peer = std::move(peer)] {});
  }

 private:
  absl::Mutex mu_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

class PeerHandle final : public Peer {
 public:
  explicit PeerHandle(std::unique_ptr<Peer> peer) : peer_(std::move(peer)) {}

  ~PeerHandle() override {
    if (!home_.IsThis()) {
      (void)peer_.release();
    } else if (InUserCode()) {
      static Reaper reaper;
      reaper.Take(std::move(peer_));
    }
  }

  const PeerId& id() const override { return peer_->id(); }
  const std::string& control_address() const override {
    return peer_->control_address();
  }
  Capabilities GetCapabilities() const override {
    if (home_.IsThis()) return peer_->GetCapabilities();
    return {.peer = peer_->id()};
  }
  void Accept(
      std::function<void(std::shared_ptr<Session>)> on_session) override {
    if (home_.IsThis()) peer_->Accept(std::move(on_session));
  }
  void Connect(std::string address, Offer offer, absl::Duration timeout,
               Done<std::shared_ptr<Session>> done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer_->Connect(std::move(address), std::move(offer), timeout,
                   std::move(done));
  }
  void Explain(std::string address, Offer offer, absl::Duration timeout,
               Done<Explanation> done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer_->Explain(std::move(address), std::move(offer), timeout,
                   std::move(done));
  }
  std::vector<SessionRecord> ListSessions() override {
    return home_.IsThis() ? peer_->ListSessions()
                          : std::vector<SessionRecord>();
  }
  void Shutdown(absl::Duration drain, DoneStatus done) override {
    if (!home_.IsThis()) return std::move(done)(home_.Check());
    peer_->Shutdown(drain, std::move(done));
  }

 private:
  const HomeProcess home_;
  std::unique_ptr<Peer> peer_;
};

}  // namespace

std::unique_ptr<Peer> MakePeerHandle(std::unique_ptr<Peer> peer) {
  return std::make_unique<PeerHandle>(std::move(peer));
}

}  // namespace tensorferry
