#include "channel/peer_memory.h"

#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/ptrace_scope.h"
#include "base/random_bytes.h"

namespace tensorferry {
namespace {

absl::Status Refused(int error, pid_t pid) {
  const std::string text = absl::StrCat("process_vm_readv from process ", pid,
                                        ": ", std::strerror(error));
  return error == ESRCH ? absl::UnavailableError(text)
                        : absl::FailedPreconditionError(text);
}

std::string LinkTarget(const char* path) {
  char target[PATH_MAX];
  const ssize_t n = readlink(path, target, sizeof target);
  return n > 0 ? std::string(target, n) : "";
}

}  // namespace

PlacedNonce::PlacedNonce()
    : status_(RandomBytes(value_.data(), value_.size())) {
  uint64_t words[2];
  std::memcpy(words, value_.data(), sizeof words);
  for (int i = 0; i < 2; ++i) words_[i].store(words[i]);
}

void PlacedNonce::Erase() {
  for (std::atomic<uint64_t>& word : words_) word.store(0);
}

absl::StatusOr<PeerMemory> PeerMemory::Prove(const PeerProcess& process,
                                             uint64_t nonce_address,
                                             const MemoryNonce& nonce) {
  if (process.pid <= 0) {
    return absl::FailedPreconditionError(
        "the peer's process is not visible here (another pid namespace)");
  }
  if (process.uid != geteuid()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the peer is of user ", process.uid, ", this process of ", geteuid()));
  }
  const PeerMemory memory(process.pid, nonce_address, nonce);
  uint8_t first;
  const absl::Status status = memory.Read(nonce_address, &first, sizeof first);
  if (status.ok()) return memory;
  return absl::FailedPreconditionError(
      absl::StrCat("the peer is not proved to be process ", process.pid, ": ",
                   status.message()));
}

absl::Status PeerMemory::Read(uint64_t from, void* to, uint64_t length) const {
  // The nonce goes last: if it is still there, so were the bytes.
  MemoryNonce found;
  const iovec local[] = {{to, length}, {found.data(), found.size()}};
  const iovec remote[] = {
      {reinterpret_cast<void*>(from), length},
      {reinterpret_cast<void*>(nonce_address_), found.size()}};
  const ssize_t n = process_vm_readv(pid_, local, 2, remote, 2, 0);
  if (n < 0 && errno != EFAULT) return Refused(errno, pid_);
  const uint64_t got = n < 0 ? 0 : n;
  if (got == length + found.size() && found == nonce_) return absl::OkStatus();
  if (got < length && HasNonce()) {
    return absl::NotFoundError(
        absl::StrCat("process_vm_readv finds no ", length, " bytes at address ",
                     from, " of process ", pid_,
                     ": they are not there, or in memory that the system lets "
                     "only that process read (a device's, secretmem)"));
  }
  return absl::UnavailableError(
      absl::StrCat("the nonce is not in the memory of process ", pid_,
                   ": it has closed the channel, or is not the peer"));
}

bool PeerMemory::HasNonce() const {
  MemoryNonce found;
  const iovec local{found.data(), found.size()};
  const iovec remote{reinterpret_cast<void*>(nonce_address_), found.size()};
  return process_vm_readv(pid_, &local, 1, &remote, 1, 0) ==
             static_cast<ssize_t>(found.size()) &&
         found == nonce_;
}

std::string MemoryDomain() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  const std::string pids = LinkTarget("/proc/self/ns/pid");
  const std::string users = LinkTarget("/proc/self/ns/user");
  if (boot.empty() || pids.empty() || users.empty()) return "";
  return absl::StrCat("local4:", boot, ":", pids, ":", users, ":", geteuid());
}

std::string WhyOthersAreRefused() {
  if (prctl(PR_GET_DUMPABLE) != 1) {
    return "this process is not dumpable (PR_SET_DUMPABLE), so that the system "
           "lets no peer read its memory";
  }
  return WhyPtraceRefuses(PtraceScope(), HasSysPtrace());
}

}  // namespace tensorferry
