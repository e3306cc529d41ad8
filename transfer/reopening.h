#ifndef TENSORFERRY_TRANSFER_REOPENING_H_
#define TENSORFERRY_TRANSFER_REOPENING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry {

// How two sides open lanes, and those that have ended again: one class for each
// side, both without I/O.
//
// Every offer of a lane has a generation of its own, higher than all before;
// only the last one is good. So it does not matter what crosses on the way: an
// offer that was overtaken is turned away, and another one has been made.
// Generation 1 of every lane is offered by whoever gave out the address.

// The accepting side.
class LaneOffers {
 public:
  struct Action {
    enum class Kind {
      kListen,         // at a new address, in place of the old one if any
      kStopListening,  // no lane is expected
      kOffer,          // tell the peer: this generation, at that address
    };
    Kind kind = Kind::kOffer;
    uint32_t lane = 0, generation = 0;

    friend bool operator==(const Action&, const Action&) = default;
  };
  using Actions = std::vector<Action>;

  explicit LaneOffers(size_t lanes) : lanes_(lanes) {}

  // The peer comes with an offer. UNAUTHENTICATED: it is not good, or was taken
  // already.
  absl::Status Check(uint32_t lane, uint32_t generation) const;
  // He has taken it: the lane is up.
  void OnTaken(uint32_t lane, Actions& out);
  // A lane that was up has ended.
  void OnEnded(uint32_t lane, Actions& out);
  // The listener is gone, or has to go. No effect if there is none.
  void OnListenerLost(Actions& out);

  bool all_taken() const;

 private:
  struct Lane {
    uint32_t offered = 1;
    bool taken = false;
  };

  void Offer(uint32_t lane, Actions& out);
  void ListenAndOffer(Actions& out);

  bool listening_ = true;
  std::vector<Lane> lanes_;
};

// The dialing side. A lane has at most one connection at a time, be it up or
// not.
class LaneDials {
 public:
  struct Action {
    enum class Kind {
      kEnd,   // the lane's connection
      kDial,  // this generation, at that address
    };
    Kind kind = Kind::kDial;
    uint32_t lane = 0, generation = 0;
    std::string address;

    friend bool operator==(const Action&, const Action&) = default;
  };
  using Actions = std::vector<Action>;

  // Generation 1 of every lane is being dialed.
  explicit LaneDials(size_t lanes) : lanes_(lanes) {}

  // The peer offers a lane. INVALID_ARGUMENT: it is none that is offered.
  absl::Status OnOffer(uint32_t lane, uint32_t generation, std::string address,
                       Actions& out);
  // The lane's connection has ended, whether it was up or not.
  void OnEnded(uint32_t lane, Actions& out);

 private:
  struct Lane {
    uint32_t dialed = 1, offered = 1;  // the latest
    bool connected = true;             // or connecting
    std::string address;
  };

  void Dial(uint32_t lane, Actions& out);

  std::vector<Lane> lanes_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_REOPENING_H_
