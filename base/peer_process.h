#ifndef TENSORFERRY_BASE_PEER_PROCESS_H_
#define TENSORFERRY_BASE_PEER_PROCESS_H_

#include <sys/types.h>

namespace tensorferry {

// The process at the other end of a unix socket, as the kernel saw it when the
// socket was connected (SO_PEERCRED). `pid` is 0 if this process cannot see it
// (another pid namespace), and may be an ancestor's of the one that holds the
// socket now.
struct PeerProcess {
  pid_t pid = 0;
  uid_t uid = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_PEER_PROCESS_H_
