#ifndef TENSORFERRY_TRANSPORT_CLOSE_ELSEWHERE_H_
#define TENSORFERRY_TRANSPORT_CLOSE_ELSEWHERE_H_

#include "base/unique_fd.h"

namespace tensorferry {

// A close may block for as long as who made the descriptor likes: of a TCP
// socket with SO_LINGER, of a file of a FUSE file system. These close what a
// peer sent on a thread of its own, one for the process, which starts with the
// first. One that blocks for ever keeps those behind it open. Any thread; never
// blocks, but in a child of a fork, which has not that thread.
void CloseElsewhere(UniqueFd descriptor);

// A connection's socket. With a unix socket the system closes the descriptors
// that came and were not read: there is no thread for it but where some may
// have come.
void CloseSocket(UniqueFd socket);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_CLOSE_ELSEWHERE_H_
