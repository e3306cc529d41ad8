// A program of another workspace, which knows tensorferry's front door alone.

#include <ATen/ops/ones.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "control/capabilities.h"
#include "control/control_client.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "session/blocking.h"

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

// The front door has what the author of a converter needs.
bool ConvertersAreFound() {
  auto converter =
      tensorferry::ConverterRegistry::Global().Find(c10::DeviceType::CPU);
  return converter.ok() && !(*converter)->Devices().empty();
}

// The README's two programs in one.
bool TensorArrives() {
  auto receiver = tensorferry::Peer::Create({.name = "receiver"}).value();
  const at::Tensor weights = at::ones({2, 3});
  std::shared_ptr<tensorferry::Session> accepted;  // to drop it would end it
  bool equal = false;
  absl::Notification received;
  receiver->Accept([&](std::shared_ptr<tensorferry::Session> session) {
    accepted = std::move(session);
    accepted->Receive({}, [&](absl::StatusOr<tensorferry::Received> got) {
      equal = got.ok() && got->message.tensors.at(0).equal(weights);
      received.Notify();
    });
  });
  auto peer = tensorferry::Peer::Create({.name = "trainer"}).value();
  auto session = tensorferry::blocking::Connect(
                     *peer, receiver->control_address(), {}, absl::Seconds(10))
                     .value();
  auto receipt = tensorferry::blocking::Send(
      *session, {.type = 1, .tensors = {weights}, .names = {"weights"}});
  received.WaitForNotification();
  std::printf("session: %s\n", receipt.status().ToString().c_str());
  return receipt.ok() && equal;
}

int main() {
  return ControlAnswers() && ConvertersAreFound() && TensorArrives() ? 0 : 1;
}
