#ifndef TENSORFERRY_CATALOG_PAYLOAD_H_
#define TENSORFERRY_CATALOG_PAYLOAD_H_

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace tensorferry {

// `message` as a payload: maps in the order of their keys. A receipt's digest
// is over the payload too, and must be the same for the same tensors.
inline std::string ToPayload(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

// Parses what a peer sent. INVALID_ARGUMENT: it is no such message.
// RESOURCE_EXHAUSTED, before it is parsed: it has more than 1,048,576 fields,
// those of messages in it included (a field of two bytes takes a hundred and
// more once it is parsed). Both say `what` it should have been.
absl::Status ParsePayload(const std::string& payload, absl::string_view what,
                          google::protobuf::Message& message);

template <class Message>
absl::StatusOr<Message> ParsePayload(const std::string& payload,
                                     absl::string_view what) {
  Message message;
  FERRY_RETURN_IF_ERROR(ParsePayload(payload, what, message));
  return message;
}

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PAYLOAD_H_
