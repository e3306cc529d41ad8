#include "catalog/payload.h"

#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <climits>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

constexpr int kMostFields = 1 << 20;

// Whether `payload` has at most so many. A group, which may hide any number, is
// too many: none of our messages has one.
bool HasFewFields(const std::string& payload) {
  using google::protobuf::internal::WireFormatLite;
  google::protobuf::io::CodedInputStream stream(
      reinterpret_cast<const uint8_t*>(payload.data()),
      static_cast<int>(std::min<size_t>(payload.size(), INT_MAX)));
  for (int fields = 0; fields <= kMostFields; ++fields) {
    const uint32_t tag = stream.ReadTag();
    if (WireFormatLite::GetTagWireType(tag) ==
        WireFormatLite::WIRETYPE_START_GROUP) {
      return false;
    }
    // The end, or what the parser will refuse.
    if (tag == 0 || !WireFormatLite::SkipField(&stream, tag)) return true;
  }
  return false;
}

}  // namespace

absl::Status ParsePayload(const std::string& payload, absl::string_view what,
                          google::protobuf::MessageLite& message) {
  if (!HasFewFields(payload)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the payload of ", payload.size(), " bytes has more than ", kMostFields,
        " fields, or groups of them: too many for a ", what));
  }
  if (message.ParseFromString(payload)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the payload of ", payload.size(), " bytes is no ", what));
}

}  // namespace tensorferry
