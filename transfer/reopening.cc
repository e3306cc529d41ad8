#include "transfer/reopening.h"

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status LaneOffers::Check(uint32_t lane, uint32_t generation) const {
  if (lane < lanes_.size() && !lanes_[lane].taken &&
      generation == lanes_[lane].offered) {
    return absl::OkStatus();
  }
  return absl::UnauthenticatedError(absl::StrCat(
      "lane ", lane, ", generation ", generation, " is not expected"));
}

void LaneOffers::OnTaken(uint32_t lane) { lanes_[lane].taken = true; }

uint32_t LaneOffers::OnEnded(uint32_t lane) {
  lanes_[lane].taken = false;
  return ++lanes_[lane].offered;
}

absl::StatusOr<LaneDials::Next> LaneDials::OnOffer(uint32_t lane,
                                                   uint32_t generation) {
  // Lane 0 is not opened again.
  if (lane == 0 || lane >= lanes_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peer broke the transfer protocol: REOPEN of lane ",
                     lane, " of ", lanes_.size()));
  }
  Lane& offered = lanes_[lane];
  if (generation <= offered.offered) return Next::kNothing;
  offered.offered = generation;
  return offered.connected ? Next::kEnd : Dial(offered);
}

LaneDials::Next LaneDials::OnEnded(uint32_t lane) {
  Lane& ended = lanes_[lane];
  ended.connected = false;
  return ended.offered > ended.dialed ? Dial(ended) : Next::kNothing;
}

LaneDials::Next LaneDials::Dial(Lane& lane) {
  lane.dialed = lane.offered;
  lane.connected = true;
  return Next::kDial;
}

}  // namespace tensorferry
