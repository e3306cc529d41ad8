#include "tests/reliability/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace testing {
namespace {

constexpr char kDevice[] = "wire";
constexpr int kTurnMs = 20;  // how soon the thread sees that it has to stop

absl::Status Check(bool worked, const char* what) {
  if (worked) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(what, ": ", strerror(errno)));
}

std::string AddressOf(int host) { return absl::StrCat("10.93.0.", host + 1); }

ifreq Request(const char* device) {
  ifreq request = {};
  std::strncpy(request.ifr_name, device, sizeof(request.ifr_name) - 1);
  return request;
}

absl::Status SetAddress(int fd, unsigned long what, const std::string& text) {
  ifreq request = Request(kDevice);
  sockaddr_in address = {.sin_family = AF_INET};
  inet_pton(AF_INET, text.c_str(), &address.sin_addr);
  std::memcpy(&request.ifr_addr, &address, sizeof(address));
  return Check(ioctl(fd, what, &request) == 0, "address of a tun device");
}

absl::Status BringUp(int fd, const char* device) {
  ifreq request = Request(device);
  FERRY_RETURN_IF_ERROR(
      Check(ioctl(fd, SIOCGIFFLAGS, &request) == 0, "SIOCGIFFLAGS"));
  request.ifr_flags |= IFF_UP;
  return Check(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "SIOCSIFFLAGS");
}

struct Packet {
  std::string bytes;
  absl::Time due;
};

}  // namespace

absl::StatusOr<Wire::End> Wire::MakeEnd(int host) {
  End end;
  FERRY_RETURN_IF_ERROR(
      Check(unshare(CLONE_NEWNET) == 0, "a network namespace"));
  end.network = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  FERRY_RETURN_IF_ERROR(Check(end.network >= 0, "ns/net"));
  end.device = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  FERRY_RETURN_IF_ERROR(Check(end.device >= 0, "/dev/net/tun"));
  ifreq request = Request(kDevice);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  FERRY_RETURN_IF_ERROR(
      Check(ioctl(end.device, TUNSETIFF, &request) == 0, "TUNSETIFF"));
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  FERRY_RETURN_IF_ERROR(Check(control >= 0, "socket"));
  absl::Status set = SetAddress(control, SIOCSIFADDR, AddressOf(host));
  set.Update(SetAddress(control, SIOCSIFNETMASK, "255.255.255.0"));
  set.Update(BringUp(control, "lo"));
  set.Update(BringUp(control, kDevice));
  close(control);
  FERRY_RETURN_IF_ERROR(set);
  return end;
}

absl::StatusOr<std::unique_ptr<Wire>> Wire::Create() {
  absl::StatusOr<End> ends[2];
  for (int host : {0, 1}) {
    // A thread of its own, since it moves into the namespace.
    std::thread([&] { ends[host] = MakeEnd(host); }).join();
    FERRY_RETURN_IF_ERROR(ends[host].status());
  }
  return std::unique_ptr<Wire>(new Wire(*ends[0], *ends[1]));
}

Wire::Wire(End first, End second)
    : ends_{first, second}, thread_([this] { Carry(); }) {}

Wire::~Wire() {
  stopping_ = true;
  thread_.join();
  for (const End& end : ends_) {
    close(end.device);
    close(end.network);
  }
}

std::string Wire::network(int host) const {
  return absl::StrCat("/proc/", getpid(), "/fd/", ends_[host].network);
}

std::string Wire::address(int host) const { return AddressOf(host); }

void Wire::Carry() {
  std::deque<Packet> under_way[2];  // to each end, in order
  int64_t packets = 0;
  char buffer[65536];
  while (!stopping_) {
    absl::Duration wait = absl::Milliseconds(kTurnMs);
    for (int to : {0, 1}) {
      for (auto& queue = under_way[to]; !queue.empty(); queue.pop_front()) {
        const absl::Duration left = queue.front().due - absl::Now();
        wait = std::min(wait, left);
        if (left > absl::ZeroDuration()) break;
        // A full device loses it, as a full router would.
        [[maybe_unused]] const ssize_t n =
            write(ends_[to].device, queue.front().bytes.data(),
                  queue.front().bytes.size());
      }
    }
    pollfd waiting[2] = {{.fd = ends_[0].device, .events = POLLIN},
                         {.fd = ends_[1].device, .events = POLLIN}};
    const timespec most =
        absl::ToTimespec(std::max(wait, absl::ZeroDuration()));
    if (ppoll(waiting, 2, &most, nullptr) <= 0) continue;
    for (int from : {0, 1}) {
      while (true) {
        const ssize_t n = read(ends_[from].device, buffer, sizeof(buffer));
        if (n <= 0) break;
        const int lose = lose_;
        if (cut_ || (lose > 0 && ++packets % lose == 0)) continue;
        under_way[1 - from].push_back(
            {std::string(buffer, n),
             absl::Now() + absl::Nanoseconds(delay_ns_.load())});
      }
    }
  }
}

}  // namespace testing
}  // namespace tensorferry
