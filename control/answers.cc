#include "control/answers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "control/grpc_status.h"

namespace tensorferry {
namespace {

// Counts `nbytes` until gRPC has written the answer, or given it up.
class Answer final : public grpc::ServerUnaryReactor {
 public:
  Answer(const absl::Status& status,
         std::shared_ptr<std::atomic<uint64_t>> not_taken, uint64_t nbytes)
      : not_taken_(std::move(not_taken)), nbytes_(nbytes) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override {
    *not_taken_ -= nbytes_;
    delete this;
  }

 private:
  const std::shared_ptr<std::atomic<uint64_t>> not_taken_;
  const uint64_t nbytes_;
};

}  // namespace

grpc::ServerUnaryReactor* Answers::Give(
    absl::Status status, google::protobuf::MessageLite& response) {
  uint64_t nbytes = status.ok() ? response.ByteSizeLong() : 0;
  const uint64_t others = not_taken_->fetch_add(nbytes);
  // However long one is: there is one at least.
  if (others > 0 && nbytes > 0 && others + nbytes > most_) {
    *not_taken_ -= nbytes;
    nbytes = 0;
    response.Clear();
    status = absl::ResourceExhaustedError(
        absl::StrCat("callers have not taken ", others,
                     " bytes of answers, of at most ", most_, "; try again"));
  }
  return new Answer(status, not_taken_, nbytes);
}

}  // namespace tensorferry
