#include "tests/reliability/confinement.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tests/testing/forbid_call.h"

namespace tensorferry {
namespace testing {
namespace {

absl::Status Check(bool worked, const char* what) {
  if (worked) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(what, ": ", strerror(errno)));
}

absl::Status Limit(int resource, rlim_t most) {
  const rlimit limit = {.rlim_cur = most, .rlim_max = most};
  return Check(setrlimit(resource, &limit) == 0, "setrlimit");
}

rlim_t AddressSpaceNow() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

// In all threads, the system call fails with EPERM from now on.
absl::Status Deny(const std::string& call) {
  int number = 0;
  if (call == "memfd_create") number = SYS_memfd_create;
  if (call == "process_vm_readv") number = SYS_process_vm_readv;
  if (number == 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot deny ", call));
  }
  return Check(ForbidCall(number), "seccomp");
}

absl::Status MountFullShm() {
  FERRY_RETURN_IF_ERROR(Check(unshare(CLONE_NEWNS) == 0, "unshare"));
  FERRY_RETURN_IF_ERROR(Check(
      mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount"));
  FERRY_RETURN_IF_ERROR(
      Check(mount("none", "/dev/shm", "tmpfs", 0, "size=64k") == 0, "mount"));
  const std::string filling(64 << 10, 'x');
  std::ofstream("/dev/shm/full") << filling;
  return absl::OkStatus();
}

absl::Status EnterNetwork(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  FERRY_RETURN_IF_ERROR(Check(fd >= 0, "open of a network namespace"));
  const absl::Status entered = Check(setns(fd, CLONE_NEWNET) == 0, "setns");
  close(fd);
  return entered;
}

}  // namespace

absl::Status Confine(const Confinement& confinement) {
  if (!confinement.network.empty()) {
    FERRY_RETURN_IF_ERROR(EnterNetwork(confinement.network));
  }
  if (confinement.full_shm) FERRY_RETURN_IF_ERROR(MountFullShm());
  if (confinement.user >= 0) {
    FERRY_RETURN_IF_ERROR(
        Check(setgid(confinement.user) == 0 && setuid(confinement.user) == 0,
              "setuid"));
  }
  if (confinement.undumpable) {
    FERRY_RETURN_IF_ERROR(
        Check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "prctl"));
  }
  for (const std::string& call : confinement.denied) {
    FERRY_RETURN_IF_ERROR(Deny(call));
  }
  if (confinement.address_space > 0) {
    // Each arena of malloc's reserves more than a small limit has.
    mallopt(M_ARENA_MAX, 1);
    FERRY_RETURN_IF_ERROR(
        Limit(RLIMIT_AS, AddressSpaceNow() + confinement.address_space));
  }
  if (confinement.descriptors > 0) {
    FERRY_RETURN_IF_ERROR(Limit(RLIMIT_NOFILE, confinement.descriptors));
  }
  return absl::OkStatus();
}

}  // namespace testing
}  // namespace tensorferry
