#ifndef TENSORFERRY_BASE_PEER_ID_H_
#define TENSORFERRY_BASE_PEER_ID_H_

#include <cstdint>
#include <string>

namespace tensorferry {

// Who a process is to others. The epoch is drawn at random when the peer
// starts, so that a restarted process with the old name is told apart.
struct PeerId {
  std::string name;
  uint64_t epoch = 0;

  friend bool operator==(const PeerId& a, const PeerId& b) {
    return a.name == b.name && a.epoch == b.epoch;
  }
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_PEER_ID_H_
