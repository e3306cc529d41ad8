#include "catalog/payload.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <climits>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

constexpr int kMostFields = 1 << 20;

// Takes the fields of a message of this type, up to the stream's limit, from
// those that are `left`, and those of the messages in it. False: they are more.
// A group, which may hide any number, is too many: no message of ours has one.
// What the parser will refuse need not be counted to its end.
bool CountFields(CodedInputStream& stream, const Descriptor& type, int& left) {
  while (const uint32_t tag = stream.ReadTag()) {
    const auto wire_type = WireFormatLite::GetTagWireType(tag);
    if (wire_type == WireFormatLite::WIRETYPE_START_GROUP || --left < 0) {
      return false;
    }
    const FieldDescriptor* const field =
        type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field == nullptr || field->message_type() == nullptr ||
        wire_type != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&stream, tag)) return true;
      continue;
    }
    uint32_t nbytes = 0;
    if (!stream.ReadVarint32(&nbytes) || nbytes > INT_MAX) return true;
    const auto limit = stream.PushLimit(static_cast<int>(nbytes));
    if (!CountFields(stream, *field->message_type(), left)) return false;
    if (stream.BytesUntilLimit() > 0) return true;
    stream.PopLimit(limit);
  }
  return true;
}

bool HasFewFields(const std::string& payload, const Descriptor& type) {
  CodedInputStream stream(
      reinterpret_cast<const uint8_t*>(payload.data()),
      static_cast<int>(std::min<size_t>(payload.size(), INT_MAX)));
  int left = kMostFields;
  return CountFields(stream, type, left);
}

}  // namespace

absl::Status ParsePayload(const std::string& payload, absl::string_view what,
                          google::protobuf::Message& message) {
  if (!HasFewFields(payload, *message.GetDescriptor())) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the payload of ", payload.size(), " bytes has more than ", kMostFields,
        " fields, or groups of them: too many for a ", what));
  }
  if (message.ParseFromString(payload)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the payload of ", payload.size(), " bytes is no ", what));
}

}  // namespace tensorferry
