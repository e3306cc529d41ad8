// A program of another workspace, which knows tensorferry's front door alone.

#include <cstdio>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "control/capabilities.h"
#include "control/control_client.h"

#if !defined(BOUND_ABSL) || !defined(BOUND_GRPC)
#error "tensorferry was built with another absl or gRPC than it is bound to"
#endif

int main() {
  auto client = tensorferry::ControlClient::Create("unix:/nonexistent.sock");
  if (!client.ok()) return 1;
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
  return absl::IsUnavailable(status) ? 0 : 1;
}
