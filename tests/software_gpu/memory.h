#ifndef TENSORFERRY_TESTS_SOFTWARE_GPU_MEMORY_H_
#define TENSORFERRY_TESTS_SOFTWARE_GPU_MEMORY_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/software_gpu/access_log.h"
#include "tests/software_gpu/shared_state.h"

namespace tensorferry::software_gpu {

struct Allocation {
  enum class Kind { kDevice, kImported, kPinned, kRegistered };

  uintptr_t begin = 0;  // as programs know it
  size_t size = 0;
  char* view = nullptr;  // the same bytes, readable by the host
  Kind kind = Kind::kDevice;
  int device = 0;
  uint64_t id = 0;
  bool freed = false;
  std::vector<Access> accesses;  // while `log` is null

  // Of memory that another process has, or may get, a handle to.
  std::shared_ptr<SharedLog> log;
  size_t log_offset = 0;  // in the exporter's file of shared states

  // Of imported memory.
  std::shared_ptr<char> mapping;
  std::string origin;  // names the exporter's allocation
  int opened = 0;      // how often; one close each

  bool on_device() const {
    return kind == Kind::kDevice || kind == Kind::kImported;
  }
  uint64_t OffsetOf(const void* p) const {
    return reinterpret_cast<uintptr_t>(p) - begin;
  }
  bool Contains(const void* p, size_t length) const {
    return OffsetOf(p) <= size && length <= size - OffsetOf(p);
  }
};

using AllocationPtr = std::shared_ptr<Allocation>;

// The memory of one device. Programs get addresses that they cannot touch; the
// software GPU works through a second mapping of the same pages. An address is
// never given twice, so what uses freed memory is found out.
class DeviceMemory {
 public:
  DeviceMemory();
  // Null: it is used up.
  AllocationPtr Allocate(size_t size);
  void Free(const Allocation& allocation);
  const MemoryFile& file() const { return file_; }
  size_t OffsetOf(const Allocation& allocation) const {
    return allocation.view - file_.at(0);
  }

 private:
  MemoryFile file_;
  uintptr_t addresses_;
};

// Address space without access, for ever.
uintptr_t ReserveAddresses(size_t size);

// Everything that a pointer may point into.
class AllocationMap {
 public:
  void Add(AllocationPtr allocation);
  void Remove(const Allocation& allocation);
  // The allocation that has `p` or, if it is within a page of the end, had run
  // over; freed device memory too. Null: ordinary host memory.
  AllocationPtr Find(const void* p) const;
  std::vector<AllocationPtr> Live() const;

 private:
  std::map<uintptr_t, AllocationPtr> by_begin_;
  uint64_t next_id_ = 1;
};

}  // namespace tensorferry::software_gpu

#endif  // TENSORFERRY_TESTS_SOFTWARE_GPU_MEMORY_H_
