#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/await.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/device_text.h"
#include "cli/security_flags.h"
#include "cli/values.h"
#include "control/control_client.h"

namespace tensorferry::cli {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);

std::string Epoch(const PeerId& peer) {
  return absl::StrCat(absl::Hex(peer.epoch, absl::kZeroPad16));
}

void ShowJson(const Capabilities& can, Json& json) {
  json["name"] = can.peer.name;
  json["epoch"] = Epoch(can.peer);
  json["host_id"] = can.host_id;
  json["user_id"] = can.user_id;
  json["process_id"] = can.process_id;
  json["wire_versions"] = {can.wire_versions.lowest, can.wire_versions.highest};
  json["devices"] = Json::array();
  for (const DeviceInfo& device : can.devices) {
    json["devices"].push_back(DeviceToJson(device));
  }
  json["limits"] = Json::object();
  for (const auto& [name, value] : NamedLimits(can.limits)) {
    json["limits"][name] = value;
  }
  json["paths"] = Json::array();
  for (const PathCapability& path : can.paths) {
    json["paths"].push_back({{"name", path.name},
                             {"from", path.from_type},
                             {"to", path.to_type},
                             {"priority", path.priority},
                             {"opens_device", path.opens_device},
                             {"only_if_named", path.only_if_named},
                             {"unusable", path.unusable}});
  }
}

std::string ToText(const Capabilities& can) {
  std::string text = absl::StrFormat(
      "peer      %s (epoch %s)\nhost      %s, user %d, process %d\n"
      "protocol  %d to %d\n",
      OneLine(can.peer.name), Epoch(can.peer), OneLine(can.host_id),
      can.user_id, can.process_id, can.wire_versions.lowest,
      can.wire_versions.highest);
  for (const DeviceInfo& device : can.devices) {
    absl::StrAppend(&text, "device    ", ToString(device.id), "   ",
                    ShowDevice(device), "\n");
  }
  for (const PathCapability& path : can.paths) {
    absl::StrAppendFormat(
        &text, "path      %s   %s to %s%s%s%s\n", OneLine(path.name),
        OneLine(path.from_type), OneLine(path.to_type),
        path.opens_device ? ", opens the other's device" : "",
        path.only_if_named ? ", only if named" : "",
        path.unusable.empty()
            ? ""
            : absl::StrCat("   not now: ", OneLine(path.unusable)));
  }
  absl::StrAppendFormat(
      &text,
      "limits    a message: %s, %d tensors\n"
      "          under way in a direction: %s in %d messages\n",
      ShowBytes(can.limits.message_bytes), can.limits.tensors,
      ShowBytes(can.limits.bytes_in_flight), can.limits.operations_in_flight);
  return Printable(text);
}

absl::Status Describe(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(
      auto client,
      ControlClient::Create(arguments.positional(0),
                            {.security = ClientSecurityOf(arguments)}));
  FERRY_ASSIGN_OR_RETURN(Capabilities can,
                         Await<Capabilities>([&](Done<Capabilities> done) {
                           client->GetCapabilities(kTimeout, std::move(done));
                         }));
  ShowJson(can, output.json());
  output.Print(ToText(can));
  return absl::OkStatus();
}

}  // namespace

Command DescribeCommand() {
  return {"describe",
          "Says what a peer can do: its devices, paths and limits.",
          {"ADDRESS"},
          {},
          "  tensorferry describe 127.0.0.1:4750\n",
          Describe};
}

}  // namespace tensorferry::cli
