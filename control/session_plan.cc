#include "control/session_plan.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "xxhash.h"

namespace tensorferry {
namespace {

// What the digest is taken over. Not a protobuf: its bytes may change with the
// library, these may not. Numbers are 8 bytes, little-endian; strings and
// lists carry their length, so that no two plans give the same bytes.
class CanonicalBytes {
 public:
  void Add(uint64_t number) {
    for (int i = 0; i < 8; ++i) {
      bytes_.push_back(static_cast<char>(number >> (8 * i)));
    }
  }
  void Add(const std::string& text) {
    Add(uint64_t{text.size()});
    bytes_ += text;
  }
  void Add(const DeviceId& device) {
    Add(device.type);
    Add(static_cast<uint64_t>(device.index));
  }
  void Add(const PeerId& peer) {
    Add(peer.name);
    Add(peer.epoch);
  }
  void Add(const PlacementRule& rule) {
    bool by_device = rule.kind == PlacementRule::Kind::kDevice;
    Add(uint64_t{by_device ? 0u : 1u});
    if (by_device) {
      Add(rule.source);
    } else {
      Add(rule.name_glob);
    }
    Add(rule.target);
  }
  void Add(const StreamSpec& stream) {
    Add(stream.device);
    Add(static_cast<uint64_t>(stream.kind));
  }
  void Add(const PathChoice& choice) {
    Add(choice.caller_device);
    Add(choice.callee_device);
    Add(choice.ranked);
  }
  void Add(const CarriedDevices& carried) {
    Add(uint64_t{carried.size()});
    for (const auto& [device, as] : carried) {
      Add(device);
      Add(as);
    }
  }
  template <class T>
  void Add(const std::vector<T>& values) {
    Add(uint64_t{values.size()});
    for (const T& value : values) Add(value);
  }
  void Add(const Limits& limits) {
    for (uint64_t limit :
         {limits.message_bytes, limits.payload_bytes, limits.manifest_bytes,
          uint64_t{limits.tensors}, uint64_t{limits.rank},
          uint64_t{limits.name_bytes}, uint64_t{limits.operations_in_flight},
          limits.bytes_in_flight, uint64_t{limits.operations_queued},
          limits.bytes_queued, uint64_t{limits.headers_waiting},
          limits.eager_bytes, uint64_t{limits.body_lanes}}) {
      Add(limit);
    }
  }

  std::string Hash() const {
    XXH128_hash_t hash = XXH3_128bits(bytes_.data(), bytes_.size());
    return absl::StrCat(absl::Hex(hash.high64, absl::kZeroPad16),
                        absl::Hex(hash.low64, absl::kZeroPad16));
  }

 private:
  std::string bytes_;
};

std::vector<uint64_t> PairsThroughHost(const SessionPlan& plan) {
  std::vector<uint64_t> pairs;
  for (size_t i = 0; i < plan.paths.size(); ++i) {
    if (plan.paths[i].through_host) pairs.push_back(i);
  }
  return pairs;
}

std::string ToString(const PeerId& peer) {
  return absl::StrCat("\"", peer.name, "\" (epoch ",
                      absl::Hex(peer.epoch, absl::kZeroPad16), ")");
}

absl::string_view ToString(StreamKind kind) {
  switch (kind) {
    case StreamKind::kDefault:
      return "default";
    case StreamKind::kPool:
      return "pool";
    case StreamKind::kHighPriority:
      return "high priority";
  }
  return "unknown";
}

void AppendRules(absl::string_view direction, const Placement& placement,
                 std::string* text) {
  bool cpu_has_rule = false;
  for (const PlacementRule& rule : placement.rules) {
    absl::StrAppend(text, "place ", direction, ": ", ToString(rule), "\n");
    cpu_has_rule |=
        rule.kind == PlacementRule::Kind::kDevice && rule.source.is_cpu();
  }
  if (!cpu_has_rule) {
    absl::StrAppend(text, "place ", direction, ": cpu=cpu (default)\n");
  }
}

void AppendStreams(absl::string_view side,
                   const std::vector<StreamSpec>& streams, std::string* text) {
  for (const StreamSpec& stream : streams) {
    absl::StrAppend(text, "stream at ", side, ": ", ToString(stream.device),
                    " ", ToString(stream.kind), "\n");
  }
}

void AppendCarried(absl::string_view side, const CarriedDevices& carried,
                   std::string* text) {
  for (const auto& [device, as] : carried) {
    absl::StrAppend(text, "carried at ", side, ": ", ToString(device), " as ",
                    ToString(as), "\n");
  }
}

void AppendChoice(const PathChoice& choice, std::string* text) {
  absl::StrAppend(
      text, "paths ", ToString(choice.caller_device), " - ",
      ToString(choice.callee_device), ": ",
      choice.ranked.empty() ? "none" : absl::StrJoin(choice.ranked, ", "),
      choice.through_host ? " (through host memory)" : "", "\n");
  for (const PathRefusal& refusal : choice.refused) {
    absl::StrAppend(text, "  not ", refusal.path, ": ", refusal.reason, "\n");
  }
}

void AppendLimits(const Limits& limits, std::string* text) {
  auto append = [text](absl::string_view name, uint64_t value) {
    absl::StrAppend(text, "limit ", name, ": ", value, "\n");
  };
  append("message_bytes", limits.message_bytes);
  append("payload_bytes", limits.payload_bytes);
  append("manifest_bytes", limits.manifest_bytes);
  append("tensors", limits.tensors);
  append("rank", limits.rank);
  append("name_bytes", limits.name_bytes);
  append("operations_in_flight", limits.operations_in_flight);
  append("bytes_in_flight", limits.bytes_in_flight);
  append("operations_queued", limits.operations_queued);
  append("bytes_queued", limits.bytes_queued);
  append("headers_waiting", limits.headers_waiting);
  append("eager_bytes", limits.eager_bytes);
  append("body_lanes", limits.body_lanes);
}

}  // namespace

std::string Digest(const SessionPlan& plan) {
  CanonicalBytes bytes;
  bytes.Add(plan.caller);
  bytes.Add(plan.callee);
  bytes.Add(static_cast<uint64_t>(plan.wire_version));
  bytes.Add(plan.to_callee.rules);
  bytes.Add(plan.to_caller.rules);
  bytes.Add(plan.caller_streams);
  bytes.Add(plan.callee_streams);
  bytes.Add(plan.paths);
  bytes.Add(uint64_t{plan.digests ? 1u : 0u});
  bytes.Add(plan.limits);
  // Builds that know nothing of them agree on plans of peers that have none.
  const std::vector<uint64_t> through_host = PairsThroughHost(plan);
  if (!plan.caller_carried.empty() || !plan.callee_carried.empty() ||
      !through_host.empty()) {
    bytes.Add(plan.caller_carried);
    bytes.Add(plan.callee_carried);
  }
  if (!through_host.empty()) bytes.Add(through_host);
  return bytes.Hash();
}

std::string ToString(const SessionPlan& plan) {
  std::string text = absl::StrCat("caller ", ToString(plan.caller), "\ncallee ",
                                  ToString(plan.callee), "\n");
  if (plan.wire_version > 0) {
    absl::StrAppend(&text, "wire version ", plan.wire_version, "\n");
  } else {
    absl::StrAppend(&text, "no wire version in common\n");
  }
  AppendRules("to callee", plan.to_callee, &text);
  AppendRules("to caller", plan.to_caller, &text);
  AppendStreams("caller", plan.caller_streams, &text);
  AppendStreams("callee", plan.callee_streams, &text);
  AppendCarried("caller", plan.caller_carried, &text);
  AppendCarried("callee", plan.callee_carried, &text);
  for (const PathChoice& choice : plan.paths) AppendChoice(choice, &text);
  absl::StrAppend(&text, "digests ", plan.digests ? "on" : "off", "\n");
  AppendLimits(plan.limits, &text);
  return text;
}

}  // namespace tensorferry
