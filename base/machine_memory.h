#ifndef TENSORFERRY_BASE_MACHINE_MEMORY_H_
#define TENSORFERRY_BASE_MACHINE_MEMORY_H_

#include <unistd.h>

#include <cstdint>

namespace tensorferry {

// In bytes: all that this machine has, and what nobody uses now.
inline uint64_t MachineMemory() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}
inline uint64_t FreeMachineMemory() {
  return static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_MACHINE_MEMORY_H_
