#ifndef TENSORFERRY_TRANSFER_REOPENING_H_
#define TENSORFERRY_TRANSFER_REOPENING_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tensorferry {

// How two sides open lanes that have ended again: one class for each side, both
// without I/O.
//
// Every offer of a lane has a generation of its own, higher than all before;
// only the last one is good. So it does not matter what crosses on the way: an
// offer that was overtaken is turned away, and another one has been made.
// Generation 1 of every lane is offered by whoever gave out the address.

// The accepting side.
class LaneOffers {
 public:
  explicit LaneOffers(size_t lanes) : lanes_(lanes) {}

  // The peer comes with an offer. UNAUTHENTICATED: it is not good, or was taken
  // already.
  absl::Status Check(uint32_t lane, uint32_t generation) const;
  // He has taken it: the lane is up.
  void OnTaken(uint32_t lane);
  // A lane that was up has ended. Returns the generation to offer.
  uint32_t OnEnded(uint32_t lane);

 private:
  struct Lane {
    uint32_t offered = 1;
    bool taken = false;
  };

  std::vector<Lane> lanes_;
};

// The dialing side. A lane has at most one connection at a time, be it up or
// not.
class LaneDials {
 public:
  enum class Next {
    kNothing,
    kEnd,   // the lane's connection
    kDial,  // the lane, as dialed() says
  };

  // Generation 1 of every lane is being dialed.
  explicit LaneDials(size_t lanes) : lanes_(lanes) {}

  // The peer offers a lane. INVALID_ARGUMENT: it is none that is offered.
  absl::StatusOr<Next> OnOffer(uint32_t lane, uint32_t generation);
  // The lane's connection has ended, whether it was up or not.
  Next OnEnded(uint32_t lane);

  uint32_t dialed(uint32_t lane) const { return lanes_[lane].dialed; }

 private:
  struct Lane {
    uint32_t dialed = 1, offered = 1;  // the latest
    bool connected = true;             // or connecting
  };

  static Next Dial(Lane& lane);

  std::vector<Lane> lanes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_REOPENING_H_
