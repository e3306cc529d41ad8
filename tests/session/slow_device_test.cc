// A device that takes its time to make a stream, as CUDA does for the first one
// in a process.
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tensorpipe/common/cpu_buffer.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;

constexpr absl::Duration kPatience = absl::Seconds(30);

const DeviceId kSlow = {"privateuseone", 0};

absl::Notification asked_for_a_stream, may_make_it;

struct SlowGuard final
    : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::PrivateUse1> {
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    asked_for_a_stream.Notify();
    may_make_it.WaitForNotification();
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, SlowGuard);

// Of a device that nothing is sent from.
class SlowConverter : public DeviceConverter {
 public:
  absl::StatusOr<SendBuffer> PrepareToSend(const c10::Storage&, ByteRange,
                                           c10::Stream) const override {
    return absl::UnimplementedError("not sent");
  }
  absl::StatusOr<c10::DataPtr> AllocateToReceive(uint64_t, c10::Device,
                                                 c10::Stream,
                                                 BufferSource*) const override {
    return absl::UnimplementedError("not received");
  }
  tensorpipe::Buffer CarriedBuffer(std::byte*, c10::Stream) const override {
    return tensorpipe::CpuBuffer();
  }
  std::vector<DeviceInfo> Devices() const override {
    DeviceInfo device;
    device.id = kSlow;
    return {device};
  }
};
FERRY_REGISTER_CONVERTER(PrivateUse1, SlowConverter);

TEST(SlowDeviceTest, TheCallersOtherCallsDoNotWaitForItsStream) {
  absl::Notification connected, explained;
  std::shared_ptr<Session> accepted;
  FERRY_ASSERT_OK_AND_ASSIGN(auto callee, Peer::Create({.name = "callee"}));
  FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                             Peer::Create({.name = "caller", .control = ""}));
  callee->Accept(
      [&](std::shared_ptr<Session> session) { accepted = std::move(session); });
  Offer offer;
  // The callee of this process has the device too.
  offer.callee_streams = {{kSlow, StreamKind::kDefault}};
  caller->Connect(callee->control_address(), offer, kPatience,
                  [&](absl::StatusOr<std::shared_ptr<Session>> session) {
                    EXPECT_THAT(session, IsOk());
                    connected.Notify();
                  });
  asked_for_a_stream.WaitForNotification();
  caller->Explain(callee->control_address(), {}, kPatience,
                  [&](absl::StatusOr<Explanation> explanation) {
                    EXPECT_THAT(explanation, IsOk());
                    explained.Notify();
                  });
  EXPECT_TRUE(explained.WaitForNotificationWithTimeout(kPatience));
  may_make_it.Notify();
  connected.WaitForNotification();
}

}  // namespace
}  // namespace tensorferry
