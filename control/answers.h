// Internal to control/ and catalog/: answers to calls that have one answer.
#ifndef TENSORFERRY_CONTROL_ANSWERS_H_
#define TENSORFERRY_CONTROL_ANSWERS_H_

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"

namespace tensorferry {

// Counts the answers of a service that their callers have not taken yet: one
// who opens no window for them takes none, and gRPC keeps them for as long as
// his connection lives. Any thread.
class Answers {
 public:
  // Of all callers together.
  explicit Answers(uint64_t most) : most_(most) {}

  // Ends a call: with `response`, or with `status` if that is not OK.
  // RESOURCE_EXHAUSTED, and `response` is cleared: it would be more than `most`
  // bytes together with others, which callers do not take.
  grpc::ServerUnaryReactor* Give(absl::Status status,
                                 google::protobuf::MessageLite& response);

 private:
  const uint64_t most_;
  // Calls may outlive this.
  const std::shared_ptr<std::atomic<uint64_t>> not_taken_ =
      std::make_shared<std::atomic<uint64_t>>(0);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_ANSWERS_H_
