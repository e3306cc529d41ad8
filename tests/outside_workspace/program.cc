// A program of another workspace, which knows tensorferry's front door alone.

#include <ATen/ops/ones.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "control/capabilities.h"
#include "control/control_client.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"

#if !defined(BOUND_ABSL) || !defined(BOUND_GRPC)
#error "tensorferry was built with another absl or gRPC than it is bound to"
#endif

// Asks a peer that is not there.
bool ControlAnswers() {
  auto client = tensorferry::ControlClient::Create("unix:/nonexistent.sock");
  if (!client.ok()) return false;
  absl::Status status;
  absl::Notification done;
  (*client)->GetCapabilities(
      absl::Seconds(20),
      [&](absl::StatusOr<tensorferry::Capabilities> capabilities) {
        status = capabilities.status();
        done.Notify();
      });
  done.WaitForNotification();
  std::printf("control: %s\n", status.ToString().c_str());
  return absl::IsUnavailable(status);
}

// Sends a tensor to itself: what is sent is what arrives.
bool TensorComesBack() {
  const at::Tensor sent = at::ones({2, 3});
  auto write = tensorferry::Serialize({.tensors = {sent}}, {});
  if (!write.ok()) return false;
  auto read = tensorferry::Allocate(write->manifest(), {});
  if (!read.ok()) return false;
  for (size_t i = 0; i < write->regions().size(); ++i) {
    std::memcpy(read->regions()[i].data, write->regions()[i].data,
                write->regions()[i].nbytes);
  }
  auto received = tensorferry::Deserialize(*std::move(read));
  const bool equal = received.ok() && received->tensors.at(0).equal(sent);
  std::printf("serialization: %s\n", equal ? "the tensor came back" : "wrong");
  return equal;
}

int main() { return ControlAnswers() && TensorComesBack() ? 0 : 1; }
