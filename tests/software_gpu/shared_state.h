#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_SHARED_STATE_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_SHARED_STATE_H_

#include <pthread.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/software_gpu/access_log.h"
#include "tests/software_gpu/vector_clock.h"

namespace tensorferry::software_gpu {

constexpr size_t kPageSize = 4096;

// Memory in a file without a name, handed out once and never again: another
// process maps parts of it through /proc/<pid>/fd.
class MemoryFile {
 public:
  // Address space only; pages are taken as they are used.
  MemoryFile(const char* name, size_t size);
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // A range of its own pages, as an offset; size() if the file is used up.
  size_t Allocate(size_t size);
  // Gives the pages back to the system.
  void Discard(size_t offset, size_t size);
  int fd() const { return fd_; }
  size_t size() const { return size_; }
  char* at(size_t offset) const { return base_ + offset; }

 private:
  const size_t size_;
  int fd_;
  char* base_;
  size_t next_ = 0;
};

// A range of another process's MemoryFile; null if that process is gone.
std::shared_ptr<char> MapRemote(pid_t process, int fd, size_t offset,
                                size_t size);

// Guards what processes share. The death of one that holds it frees it.
class SharedMutex {
 public:
  void Initialize();
  void lock();
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

// A VectorClock in shared memory.
class SharedClock {
 public:
  VectorClock Get() const;
  void Set(const VectorClock& clock);
  void Join(const VectorClock& clock);

 private:
  struct Entry {
    StreamId stream;
    uint64_t epoch;
  };
  static constexpr size_t kEntries = 4000;
  uint32_t count_;
  Entry entries_[kEntries];
};

// An event of several processes. Zeroed memory, then Initialize.
struct SharedEvent {
  SharedMutex mutex;
  uint64_t recorded;  // how often; 0: never
  uint64_t done;      // the last of these that has happened
  pid_t recorder;     // who recorded it last
  SharedClock clock;  // of that
};

// What all processes that use an allocation have to know of it.
struct SharedLog {
  static constexpr size_t kAccesses = 4000;
  SharedMutex mutex;
  bool freed;
  uint32_t count;
  Access accesses[kAccesses];  // the newest; older ones are forgotten
  // What the hosts of these processes know: they talk to each other in ways
  // that the software GPU does not see.
  SharedClock hosts;
};

std::vector<Access> Load(const SharedLog& log);
void Store(const std::vector<Access>& accesses, SharedLog& log);

// Whether a process that this one has met still lives. Any process counts as
// met when it is first asked about.
bool Lives(pid_t process);

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_SHARED_STATE_H_
