#include "control/stream_choice.h"

#include <map>
#include <vector>

namespace tensorferry {

std::vector<StreamSpec> ChooseStreams(const std::vector<StreamSpec>& wanted,
                                      const Capabilities& peer) {
  StreamKind usual =
      peer.streams_per_device > 0 ? StreamKind::kPool : StreamKind::kDefault;
  std::map<DeviceId, StreamKind> kinds;
  for (const DeviceInfo& device : peer.devices) {
    if (!device.id.is_cpu()) kinds[device.id] = usual;
  }
  for (const StreamSpec& stream : wanted) {
    auto device = kinds.find(stream.device);
    if (device != kinds.end()) device->second = stream.kind;
  }
  std::vector<StreamSpec> streams;
  for (const auto& [device, kind] : kinds) streams.push_back({device, kind});
  return streams;
}

}  // namespace tensorferry
