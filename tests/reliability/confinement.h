#ifndef TENSORFERRY_TESTS_RELIABILITY_CONFINEMENT_H_
#define TENSORFERRY_TESTS_RELIABILITY_CONFINEMENT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry {
namespace testing {

// What a process may not do. Applied by the process to itself, for good.
struct Confinement {
  int descriptors = 0;        // RLIMIT_NOFILE; 0: as it is
  int64_t address_space = 0;  // RLIMIT_AS, beyond what it has now; 0: as it is
  std::vector<std::string> denied;  // "memfd_create", "process_vm_readv"
  bool undumpable = false;          // no other process may read its memory
  bool full_shm = false;            // its own /dev/shm, of 64 KiB
  int user = -1;                    // becomes this one; -1: stays
  std::string network;              // a network namespace's path
};

// UNAVAILABLE: this machine does not let us; says what.
absl::Status Confine(const Confinement& confinement);

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_CONFINEMENT_H_
