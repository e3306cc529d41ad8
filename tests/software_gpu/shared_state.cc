#include "tests/software_gpu/shared_state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>

namespace tensorferry::software_gpu {
namespace {

size_t WholePages(size_t size) {
  return (size + kPageSize - 1) / kPageSize * kPageSize;
}

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "software GPU: %s: %s\n", what, strerror(errno));
  abort();
}

}  // namespace

MemoryFile::MemoryFile(const char* name, size_t size)
    : size_(size), fd_(memfd_create(name, MFD_CLOEXEC)) {
  if (fd_ < 0 || ftruncate(fd_, size)) Die("memfd_create");
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, fd_, 0);
  if (base == MAP_FAILED) Die("mmap");
  base_ = static_cast<char*>(base);
}

size_t MemoryFile::Allocate(size_t size) {
  // A page between neighbours catches who runs over the end.
  const size_t pages = WholePages(size) + kPageSize;
  if (pages > size_ - next_) return size_;
  const size_t offset = next_;
  next_ += pages;
  return offset;
}

void MemoryFile::Discard(size_t offset, size_t size) {
  fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
            WholePages(size));
}

std::shared_ptr<char> MapRemote(pid_t process, int fd, size_t offset,
                                size_t size) {
  const std::string path =
      "/proc/" + std::to_string(process) + "/fd/" + std::to_string(fd);
  const int opened = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (opened < 0) return nullptr;
  const size_t length = WholePages(size);
  void* base =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, opened, offset);
  close(opened);
  if (base == MAP_FAILED) return nullptr;
  return {static_cast<char*>(base), [length](char* p) { munmap(p, length); }};
}

void SharedMutex::Initialize() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

void SharedMutex::lock() {
  if (pthread_mutex_lock(&mutex_) == EOWNERDEAD) {
    pthread_mutex_consistent(&mutex_);
  }
}

VectorClock SharedClock::Get() const {
  VectorClock clock;
  for (uint32_t i = 0; i < count_; ++i) {
    clock.Advance(entries_[i].stream, entries_[i].epoch);
  }
  return clock;
}

void SharedClock::Set(const VectorClock& clock) {
  if (clock.epochs().size() > kEntries) Die("too many streams");
  count_ = 0;
  for (const auto& [stream, epoch] : clock.epochs()) {
    entries_[count_++] = {stream, epoch};
  }
}

void SharedClock::Join(const VectorClock& clock) {
  VectorClock joined = Get();
  joined.Join(clock);
  Set(joined);
}

std::vector<Access> Load(const SharedLog& log) {
  return {log.accesses, log.accesses + log.count};
}

void Store(const std::vector<Access>& accesses, SharedLog& log) {
  log.count = std::min(accesses.size(), SharedLog::kAccesses);
  std::copy(accesses.end() - log.count, accesses.end(), log.accesses);
}

bool Lives(pid_t process) {
  static std::map<pid_t, int> descriptors;  // under the machine's mutex
  auto [found, is_new] = descriptors.try_emplace(process, -1);
  if (is_new) found->second = syscall(SYS_pidfd_open, process, 0);
  if (found->second < 0) return false;
  pollfd ended = {.fd = found->second, .events = POLLIN};
  return poll(&ended, 1, 0) == 0;
}

}  // namespace tensorferry::software_gpu
