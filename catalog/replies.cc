#include "catalog/replies.h"

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/placement.h"
#include "base/status_macros.h"
#include "catalog/bundle_proto.h"
#include "catalog/payload.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

absl::Status CheckReply(const pb::PullReply& reply,
                        const TensorMessage& message, absl::string_view bundle,
                        absl::string_view names) {
  uint64_t tensors = 0;
  for (const pb::PulledBundle& pulled : reply.bundles()) {
    FERRY_RETURN_IF_ERROR(CheckBundleName(pulled.name()));
    if (!bundle.empty() && pulled.name() != bundle) {
      return absl::InvalidArgumentError(
          absl::StrCat("the peer answered with bundle \"", pulled.name(),
                       "\", asked for was \"", bundle, "\""));
    }
    tensors += pulled.tensors();
  }
  if (tensors != message.tensors.size() ||
      message.names.size() != message.tensors.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the peer announced ", tensors, " tensors and sent ",
        message.tensors.size(), " with ", message.names.size(), " names"));
  }
  for (const std::string& name : message.names) {
    if (GlobMatches(names, name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the peer sent tensor \"", absl::Utf8SafeCEscape(name), "\", which \"",
        absl::Utf8SafeCEscape(names), "\" does not match"));
  }
  return absl::OkStatus();
}

// Keys that bundles disagree on.
std::set<std::string> Contested(const pb::PullReply& reply) {
  std::map<std::string, std::string> first;
  std::set<std::string> contested;
  for (const pb::PulledBundle& bundle : reply.bundles()) {
    for (const auto& [key, text] : bundle.metadata()) {
      if (first.emplace(key, text).first->second != text) contested.insert(key);
    }
  }
  return contested;
}

std::map<std::string, std::string> MergedMetadata(const pb::PullReply& reply) {
  const std::set<std::string> contested = Contested(reply);
  std::map<std::string, std::string> merged;
  for (const pb::PulledBundle& bundle : reply.bundles()) {
    for (const auto& [key, text] : bundle.metadata()) {
      merged[contested.count(key) > 0 ? absl::StrCat(bundle.name(), "/", key)
                                      : key] = text;
    }
  }
  return merged;
}

}  // namespace

absl::StatusOr<std::vector<BundleInfo>> ReadList(
    const pb::ListBundlesResponse& response) {
  std::vector<BundleInfo> bundles;
  for (const pb::Bundle& row : response.bundles()) {
    FERRY_ASSIGN_OR_RETURN(BundleInfo info, FromProto(row));
    bundles.push_back(std::move(info));
  }
  return bundles;
}

absl::StatusOr<pb::PullReply> ParsePullReply(const std::string& payload) {
  return ParsePayload<pb::PullReply>(payload, "PullReply");
}

absl::StatusOr<NamedTensors> ReadPulled(const pb::PullReply& reply,
                                        TensorMessage message,
                                        absl::string_view bundle,
                                        absl::string_view names) {
  FERRY_RETURN_IF_ERROR(CheckReply(reply, message, bundle, names));
  NamedTensors contents;
  contents.names = std::move(message.names);
  contents.tensors = std::move(message.tensors);
  contents.metadata = MergedMetadata(reply);
  if (reply.bundles_size() == 1) {
    contents.file_header = reply.bundles(0).file_header();
  }
  FERRY_RETURN_IF_ERROR(CheckNamed(contents));
  return contents;
}

absl::StatusOr<pb::PushReply> ParsePushReply(const std::string& payload) {
  FERRY_ASSIGN_OR_RETURN(pb::PushReply reply,
                         ParsePayload<pb::PushReply>(payload, "PushReply"));
  if (reply.version() != 0) return reply;
  return absl::InvalidArgumentError("the peer's PushReply has no version");
}

}  // namespace tensorferry
