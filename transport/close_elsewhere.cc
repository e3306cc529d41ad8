#include "transport/close_elsewhere.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "base/home_process.h"

namespace tensorferry {
namespace {

class Closer {
 public:
  // Never destroyed: a close may outlast everything.
  static Closer& OfProcess() {
    static auto* const closer = new Closer;
    return *closer;
  }

  void Add(UniqueFd descriptor) {
    if (!home_.IsThis()) return;  // closed here, as the parameter goes
    absl::MutexLock lock(&mu_);
    descriptors_.push_back(std::move(descriptor));
  }

 private:
  Closer() {
    std::thread([this] { Work(); }).detach();
  }

  void Work() {
    auto any = [this] {
      mu_.AssertReaderHeld();
      return !descriptors_.empty();
    };
    while (true) {
      UniqueFd next;  // closed at the end of its turn, not under the lock
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&any));
      next = std::move(descriptors_.front());
      descriptors_.pop_front();
    }
  }

  const HomeProcess home_;
  absl::Mutex mu_;
  std::deque<UniqueFd> descriptors_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

void CloseElsewhere(UniqueFd descriptor) {
  // Without memory or threads it is closed here after all.
  CatchExceptions("closing a descriptor elsewhere", [&] {
    Closer::OfProcess().Add(std::move(descriptor));
  }).IgnoreError();
}

void CloseSocket(UniqueFd socket) {
  if (!socket.valid()) return;
  int domain = 0, unread = 0;
  socklen_t size = sizeof(domain);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
      domain != AF_UNIX) {
    return;
  }
  // So that nothing comes any more.
  shutdown(socket.get(), SHUT_RD);
  if (ioctl(socket.get(), FIONREAD, &unread) != 0 || unread == 0) return;
  shutdown(socket.get(), SHUT_RDWR);  // the peer need not wait for the thread
  CloseElsewhere(std::move(socket));
}

}  // namespace tensorferry
