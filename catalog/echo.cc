#include "catalog/echo.h"

#include <utility>

#include "base/clock.h"
#include "catalog/wire_types.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {

Operation Echo(std::shared_ptr<Session> session, at::Tensor tensor,
               bool and_back, absl::Duration timeout,
               Done<absl::Duration> done) {
  catalog::v1::EchoRequest request;
  request.set_with_tensors(and_back);
  request.set_timeout_ms(absl::ToInt64Milliseconds(timeout));
  TensorMessage message;
  message.type = kEchoType;
  message.payload = request.SerializeAsString();
  message.tensors = {std::move(tensor)};
  CallOptions options;
  options.timeout = timeout;
  const absl::Time start = Clock::Real()->Now();
  return session->Call(
      std::move(message), std::move(options),
      [start, done = std::move(done)](absl::StatusOr<Received> reply) mutable {
        if (!reply.ok()) return std::move(done)(reply.status());
        std::move(done)(Clock::Real()->Now() - start);
      });
}

}  // namespace tensorferry
