#include "transfer/rules.h"

namespace tensorferry {

Crossing CrossingOf(const TransferRules& rules, const DeviceId& own,
                    const DeviceId& peer) {
  if (!rules.through_host.empty() &&
      rules.through_host.count({own, peer}) > 0) {
    return {{}, {}, !CarriedAs(own, rules.own_carried).is_cpu()};
  }
  return {CarriedAs(own, rules.own_carried),
          CarriedAs(peer, rules.peer_carried)};
}

}  // namespace tensorferry
