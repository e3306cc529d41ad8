// Internal to session/.
#ifndef TENSORFERRY_SESSION_PEER_HANDLE_H_
#define TENSORFERRY_SESSION_PEER_HANDLE_H_

#include <memory>

#include "session/peer.h"

namespace tensorferry {

// What users hold of `peer`: it works only in the process that made it, and may
// be destroyed anywhere. In a child after fork calls answer FAILED_PRECONDITION
// and the destructor lets the parent's things lie; in a callback it leaves the
// peer, which waits for its callbacks, to a thread that ends them one by one.
// Throws std::system_error if there is none for that.
std::unique_ptr<Peer> MakePeerHandle(std::unique_ptr<Peer> peer);

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_PEER_HANDLE_H_
