#ifndef TENSORFERRY_TRANSFER_ENVELOPE_H_
#define TENSORFERRY_TRANSFER_ENVELOPE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"

namespace tensorferry {

// What a message is to the other side. Calls are requests whose reply carries
// the same number.
struct Envelope {
  enum class Kind { kMessage, kRequest, kReply };
  Kind kind = Kind::kMessage;
  uint64_t call = 0;         // kRequest, kReply
  absl::Status reply_error;  // kReply: not OK if there is no reply message
};

// Which message a Receive takes: the oldest that fits. A message goes to the
// oldest Receive that names its type or its call, and only if there is none to
// the oldest that takes any.
struct ReceiveFilter {
  // Unset: any type below kReservedTypes.
  std::optional<uint32_t> type;
  // Of Session::Call, which sets it: only the reply to this call. Unset:
  // messages and requests.
  std::optional<uint64_t> reply_to;
  // Of Session::Receive, which sets it if `type` is unset: types that are not
  // taken all the same, as they have handlers of their own.
  std::vector<uint32_t> except_types;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_ENVELOPE_H_
