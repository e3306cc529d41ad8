#ifndef TENSORFERRY_CATALOG_PAYLOAD_H_
#define TENSORFERRY_CATALOG_PAYLOAD_H_

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message_lite.h>

#include <string>

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

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PAYLOAD_H_
