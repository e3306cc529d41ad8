#ifndef TENSORFERRY_TESTS_RELIABILITY_PROCESS_VIEW_H_
#define TENSORFERRY_TESTS_RELIABILITY_PROCESS_VIEW_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tensorferry {
namespace testing {

// What the system says of another process. All zero: there is none.
struct ProcessView {
  int descriptors = 0;
  int threads = 0;
  int memfds = 0;       // open or mapped
  uint64_t memory = 0;  // resident, anonymous or shared; in bytes
};
ProcessView Look(pid_t pid);
std::string ToString(const ProcessView& view);

// Whether the process runs: neither gone nor waiting to be buried.
bool IsAlive(pid_t pid);

// A socket that a process listens on.
struct ListeningSocket {
  std::string host;  // "127.0.0.1", "::1"; empty: a unix socket
  uint16_t port = 0;
  std::string path;  // of a unix socket; "@..." is abstract
};
std::vector<ListeningSocket> ListeningSockets(pid_t pid);
std::string ToString(const ListeningSocket& socket);

uint64_t AvailableMemory();  // of this machine, in bytes

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_PROCESS_VIEW_H_
