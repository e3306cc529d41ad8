#include "transfer/reopening.h"

#include <algorithm>
#include <utility>

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

void LaneOffers::OnTaken(uint32_t lane, Actions& out) {
  lanes_[lane].taken = true;
  if (!all_taken()) return;
  listening_ = false;
  out.push_back({Action::Kind::kStopListening, 0, 0});
}

void LaneOffers::OnEnded(uint32_t lane, Actions& out) {
  lanes_[lane].taken = false;
  if (listening_) return Offer(lane, out);
  ListenAndOffer(out);
}

void LaneOffers::OnListenerLost(Actions& out) {
  if (listening_) ListenAndOffer(out);
}

bool LaneOffers::all_taken() const {
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [](const Lane& lane) { return lane.taken; });
}

void LaneOffers::Offer(uint32_t lane, Actions& out) {
  out.push_back({Action::Kind::kOffer, lane, ++lanes_[lane].offered});
}

void LaneOffers::ListenAndOffer(Actions& out) {
  listening_ = true;
  out.push_back({Action::Kind::kListen, 0, 0});
  for (uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!lanes_[lane].taken) Offer(lane, out);
  }
}

absl::Status LaneDials::OnOffer(uint32_t lane, uint32_t generation,
                                std::string address, Actions& out) {
  // Lane 0 is not opened again.
  if (lane == 0 || lane >= lanes_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peer broke the transfer protocol: REOPEN of lane ",
                     lane, " of ", lanes_.size()));
  }
  Lane& offered = lanes_[lane];
  if (generation <= offered.offered) return absl::OkStatus();
  offered.offered = generation;
  offered.address = std::move(address);
  if (!offered.connected) {
    Dial(lane, out);
  } else {
    out.push_back({Action::Kind::kEnd, lane, offered.dialed, ""});
  }
  return absl::OkStatus();
}

void LaneDials::OnEnded(uint32_t lane, Actions& out) {
  lanes_[lane].connected = false;
  if (lanes_[lane].offered > lanes_[lane].dialed) Dial(lane, out);
}

void LaneDials::Dial(uint32_t lane, Actions& out) {
  Lane& dialed = lanes_[lane];
  dialed.dialed = dialed.offered;
  dialed.connected = true;
  out.push_back(
      {Action::Kind::kDial, lane, dialed.dialed, std::move(dialed.address)});
}

}  // namespace tensorferry
