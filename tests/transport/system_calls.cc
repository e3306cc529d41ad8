#include "tests/transport/system_calls.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace {

std::atomic<int> accept_calls{0};
std::atomic<int> good_watches{-1};  // negative: all
std::atomic<int> watch_error{0};
std::atomic<int> descriptor_error{0};

}  // namespace

// In the place of libc's.
extern "C" int accept4(int fd, sockaddr* address, socklen_t* length,
                       int flags) {
  ++accept_calls;
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

extern "C" int epoll_ctl(int epoll, int operation, int fd,
                         epoll_event* event) noexcept {
  if (operation == EPOLL_CTL_ADD && good_watches >= 0 && good_watches-- == 0) {
    errno = watch_error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

extern "C" ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (descriptor_error != 0 && message->msg_controllen > 0) {
    errno = descriptor_error;
    return -1;
  }
  return syscall(SYS_sendmsg, fd, message, flags);
}

namespace tensorferry {

int AcceptCalls() { return accept_calls; }

void FailWatch(int good, int error) {
  watch_error = error;
  good_watches = good;
}

void FailSendingDescriptors(int error) { descriptor_error = error; }

}  // namespace tensorferry
